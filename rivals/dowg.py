"""DoWG (Khaled, Mishchenko, Jin, arXiv 2305.16284), of its authors' package ``dowgopt``."""

from collections.abc import Callable
from typing import Any

from dowg import DoWG

from dog.closure import loss_of
from rivals.gradients import only_with_gradients


class DoWGAdapter(DoWG):
    """DoWG that skips parameters without a gradient, takes a closure, and can be resumed.

    The package keeps x_0 under the number of the group. A state that is loaded has it as the state
    of the parameter with that number, and x_0 becomes the weights of that moment. Here each
    parameter's state has its own.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step once."""
        loss = loss_of(closure)
        with only_with_gradients(self) as groups:
            for number, group in enumerate(groups):
                for p in group["params"]:
                    if "x0" not in self.state[p]:
                        self.state[p]["x0"] = p.detach().clone()
                self.state[number] = {"x0": [self.state[p]["x0"] for p in group["params"]]}
            if groups:
                super().step()
            for number in range(len(groups)):
                del self.state[number]
        return loss

    def telemetry(self) -> list[dict[str, float]]:
        """Return η_t = r̄_t² / (√v_t + ε), and r̄_t. Reading waits for the device."""
        if "vt" not in self.state:
            return []
        squared, v = self.state["rt2"].item(), self.state["vt"].item()
        return [{"eta": squared / (v**0.5 + self.eps), "rbar": squared**0.5}]
