"""The numbers of one rule as attributes: those of its entry in the JSON document."""

from typing import TYPE_CHECKING

from seqlab.report.entries import Entry
from seqlab.wording import did_you_mean

Pair = tuple[float, float]


class Numbers:
    """What `--json` has in an entry of `curves`, under the same names, such as `decay_rate`.

    Rates in nats a step (or layer), attenuations and gradient norms in decades, lags in steps; None
    for what does not exist or was not asked for, inf, -inf and nan as floats. Tuples named
    `..._by_length` go with `lengths`, those named `..._ci95` are 95% intervals over networks, those
    named `..._iqr` quartiles. Fields from `networks_solved` on are those of training alone.
    """

    clip: str
    decay_rate: float
    decay_rate_ci95: Pair | None
    log10_attenuation: float
    log10_attenuation_iqr: Pair
    lengths: tuple[int, ...]
    log10_attenuation_by_length: tuple[float, ...]
    fit: str | None
    horizon: dict[str, int | None]
    float32_zero_lag: int | None
    float64_zero_lag: int | None
    zeros: int
    underflows: int
    overflows: int
    clipped_fraction: float | None
    log10_param_grad_norm: dict[str, float | None]
    gradient_cosine: float | None
    truncation_lag: int | None
    lyapunov: tuple[float, ...] | None
    lyapunov_dead: int | None
    theory: float | None
    networks_solved: int
    networks_solved_by_length: tuple[int, ...]
    solved_share: float
    solved_share_by_length: tuple[float, ...]
    solved_share_low: float
    solved_share_low_by_length: tuple[float, ...]
    solved_share_high: float
    solved_share_high_by_length: tuple[float, ...]
    updates_to_solve: float | None
    updates_to_solve_by_length: tuple[float | None, ...]
    updates_to_solve_low: float | None
    updates_to_solve_low_by_length: tuple[float | None, ...]
    updates_to_solve_high: float | None
    updates_to_solve_high_by_length: tuple[float | None, ...]
    trivial_loss: float
    trivial_loss_by_length: tuple[float, ...]
    best_loss: float | None
    best_loss_by_length: tuple[float | None, ...]
    final_loss: float | None
    final_loss_by_length: tuple[float | None, ...]
    test_loss: float | None
    test_loss_by_length: tuple[float | None, ...] | None
    test_accuracy: float | None
    test_accuracy_iqr: Pair | None
    test_accuracy_by_length: tuple[float | None, ...] | None
    fired_share: float | None
    fired_share_by_length: tuple[float | None, ...]
    networks_diverged: int
    networks_diverged_by_length: tuple[int, ...]
    learning_rate: float
    learning_rate_by_length: tuple[float, ...]
    clip_threshold: float | None
    clip_threshold_by_length: tuple[float | None, ...]
    horizon_trained_1e_3: int | None
    horizon_trained_1e_3_by_length: tuple[int | None, ...]
    learnable_length: float | None
    learnable_length_low: float | None
    learnable_length_high: float | None

    def __init__(self, entry: Entry) -> None:
        self.__dict__.update({name.replace("-", "_"): value for name, value in entry.items()})

    if not TYPE_CHECKING:  # checkers know the names above, and no others

        def __getattr__(self, name):
            if name in Numbers.__annotations__:
                raise AttributeError(f"{name} is a number of training alone")
            raise AttributeError(f"no number is called {name!r}{did_you_mean(name, vars(self))}")

    def __repr__(self) -> str:
        return f"Numbers of {self.clip}: decay_rate {self.decay_rate:.6g}, {len(vars(self))} in all"
