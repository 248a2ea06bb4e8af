"""D-Adapt SGD (Defazio, Mishchenko, arXiv 2301.07733), of the authors' package ``dadaptation``."""

from collections.abc import Callable
from typing import Any

from dadaptation import DAdaptSGD


class DAdaptSGDAdapter(DAdaptSGD):
    """D-Adapt SGD that tells its step size, which is d · lr / ‖g_0‖.

    The package's group has d of the next step.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step once."""
        scale = self.param_groups[0]["d"] * max(group["lr"] for group in self.param_groups)
        loss = super().step(closure)
        first = self.param_groups[0]
        if "g0_norm" in first:
            first["eta"] = scale / first["g0_norm"]
        return loss

    def telemetry(self) -> list[dict[str, float]]:
        """Return η_t."""
        first = self.param_groups[0]
        return [{"lr": first["lr"], "eta": first["eta"]}] if "eta" in first else []
