"""Safeguarded SPS (Oikonomou, Loizou, arXiv 2512.02342), of the authors' package ``sps-safe``."""

from typing import Any

from sps_safe import SPS_safe

from rivals.gradients import only_with_gradients


class SPSSafeAdapter(SPS_safe):
    """SPS_safe that skips parameters without a gradient, on which the package crashes."""

    def step(self, loss: Any = None) -> Any:
        """Step once, with the loss."""
        with only_with_gradients(self) as groups:
            return super().step(loss) if groups else loss

    def telemetry(self) -> list[dict[str, float]]:
        """Return γ_t, which the package keeps as ``ss``, and the gradient's norm."""
        return [{"eta": self.ss, "gradient_norm": self.grad_norm}] if self.grad_norm else []
