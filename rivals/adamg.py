"""AdamG (Pang et al., arXiv 2405.04376), of the package ``pytorch_optimizer``."""

from pytorch_optimizer import AdamG


class AdamGAdapter(AdamG):
    """AdamG that tells its step size, which every coordinate has by itself."""

    def telemetry(self) -> list[dict[str, float]]:
        """Return of each group the mean over its coordinates of min(lr, 1/√t) · r_t.

        That is what multiplies Adam's direction. Reading waits for the device.
        """
        rows = []
        for group in self.param_groups:
            scales = [self.state[p]["r"] for p in group["params"] if self.state.get(p)]
            total, count = sum(r.sum().item() for r in scales), sum(r.numel() for r in scales)
            largest = min(group["lr"], group.get("step", 1) ** -0.5)
            rows.append({"lr": group["lr"], "eta": largest * total / max(count, 1)})
        return rows
