"""COCOB (Orabona, Tommasi, arXiv 1705.07795), of Orabona's package ``parameterfree``."""

from parameterfree import COCOB
from torch import Tensor


class COCOBAdapter(COCOB):
    """COCOB that tells the step size that its bets amount to.

    Each coordinate bets a part of its wealth: x_t = x_0 − β_t Σ_k g_k. There is no step size to
    read.
    """

    def telemetry(self) -> list[dict[str, float]]:
        """Return of each group ‖x_t − x_0‖ / ‖Σ_k g_k‖, a mean of β_t; and the distance.

        Reading waits for the device.
        """
        rows = []
        for group in self.param_groups:
            moved = [(p.detach(), self.state[p]) for p in group["params"] if self.state.get(p)]
            distance = _norm([p - state["x0"] for p, state in moved])
            gradients = _norm([state["sum_negative_gradients"] for _, state in moved])
            rows.append({"eta": distance / gradients if gradients else 0.0, "distance": distance})
        return rows


def _norm(tensors: list[Tensor]) -> float:
    return float(sum(tensor.double().square().sum().item() for tensor in tensors)) ** 0.5
