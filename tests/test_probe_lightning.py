"""Lightning's callback: what it sees and logs in training, and what it refuses."""

import csv
import itertools
import math
import pickle
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watched import NAMES, Dropping
from watched import seeded as seeded  # it acts on every test

import seqlab
from seqlab.errors import InputError, Note

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn


@pytest.fixture
def pl() -> Any:
    return pytest.importorskip("lightning.pytorch", reason="PyTorch Lightning is not installed")


def lightning_module(pl: Any, manual: bool = False) -> Any:
    class Model(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Dropping()
            self.automatic_optimization = not manual
            self.acted: list[bool] = []

        def training_step(self, batch: Any) -> Any:
            loss = self.net.head(self.net(batch.transpose(0, 1))[0][-1]).sum() * 9
            if not manual:
                return loss
            self.manual_backward(loss)
            self.optimizers().step()
            return None

        def configure_gradient_clipping(self, *given: Any, **named: Any) -> None:
            before = [p.grad.clone() for p in self.parameters()]
            super().configure_gradient_clipping(*given, **named)
            after = [p.grad for p in self.parameters()]
            self.acted.append(not all(map(torch.equal, before, after)))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.002)

    torch.manual_seed(8)
    return Model()


def fit(pl: Any, model: Any, callbacks: list[Any], **options: Any) -> Any:
    torch.manual_seed(4)
    data = torch.utils.data.DataLoader(torch.randn(32, 6, 3), batch_size=4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        **quiet | {"enable_checkpointing": False, "max_epochs": 1} | options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own advice: workers, log intervals
        warnings.simplefilter("error", Note)
        trainer.fit(model, data)
    return trainer


@pytest.mark.parametrize(("accumulated", "updates"), [(1, 8), (2, 4)])
def test_lightning_is_watched_without_a_logger(
    pl: Any, tmp_path: Path, accumulated: int, updates: int
) -> None:
    model = lightning_module(pl)
    reach = seqlab.lightning_callback(
        torch.randn(30, 2, 3), module="net.rnn", interval=3, figure=tmp_path / "reach.pdf"
    )
    options = {"gradient_clip_val": 80, "accumulate_grad_batches": accumulated}
    fit(pl, model, [reach], **options)
    steps = [*range(0, updates, 3), updates]
    assert [seen.step for seen in reach.history] == steps
    acted = model.acted
    assert 0 < sum(acted) < updates == len(acted)
    cuts = [0, *(step + 1 for step in steps[:-1]), updates]
    # No step lies between the last two where the last step itself was probed.
    wanted = [np.mean(acted[a:b]) if b > a else math.nan for a, b in itertools.pairwise(cuts)]
    assert [seen.clipped for seen in reach.history] == pytest.approx(wanted, abs=0, nan_ok=True)
    assert (tmp_path / "reach.pdf").exists()
    alone = lightning_module(pl)
    fit(pl, alone, [], **options)
    for one, other in zip(model.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_lightning_logs_three_numbers(pl: Any, tmp_path: Path) -> None:
    logger = pl.loggers.CSVLogger(tmp_path)
    reach = seqlab.lightning_callback(torch.randn(30, 2, 3), module="net.rnn", interval=4)
    fit(pl, lightning_module(pl), [reach], logger=logger, gradient_clip_val=0.5,
        gradient_clip_algorithm="value")  # fmt: skip
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(rows[0]) == sorted([*NAMES, "step"])
    assert [int(row["step"]) for row in rows] == [0, 4, 8]
    for row, seen in zip(rows, reach.history, strict=True):
        assert [float(row[name]) for name in NAMES] == list(seen[1:4])


def test_lightning_s_fast_run_and_a_module_of_the_form_itself(pl: Any) -> None:
    class Model(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.GRU(3, 5, 2, batch_first=True)

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.net(x, state)

        def training_step(self, batch: Any) -> Any:
            return self(batch)[0].sum()

        def validation_step(self, batch: Any) -> Any:
            return self(batch)[0].sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    reach = seqlab.lightning_callback(torch.randn(2, 30, 3), time=1, dtype="float64")
    fit(pl, Model(), [reach], fast_dev_run=2)
    assert [seen.step for seen in reach.history] == [0, 2]
    assert all(math.isfinite(seen.rate) for seen in reach.history)


def test_an_exception_in_training_still_has_its_figure(pl: Any, tmp_path: Path) -> None:
    model = lightning_module(pl)
    model.on_train_batch_end = lambda *given: 1 / 0
    path = tmp_path / "reach.svg"
    reach = seqlab.lightning_callback(torch.randn(30, 2, 3), module="net", figure=path)
    with pytest.raises(ZeroDivisionError):
        fit(pl, model, [reach])
    assert [seen.step for seen in reach.history] == [0, 1]
    assert path.exists()


def test_what_lightning_cannot_watch_is_refused_when_fitting_starts(pl: Any) -> None:
    def refused(model: Any, **options: Any) -> str:
        given: dict[str, Any] = {"module": "net"} | options
        with pytest.raises(InputError) as refusal:
            fit(pl, model, [seqlab.lightning_callback(torch.randn(30, 2, 3), **given)])
        assert not model.acted
        return str(refusal.value)

    assert "did you mean net?" in refused(lightning_module(pl), module="nett")
    assert refused(lightning_module(pl), lengths=[31]).startswith("lengths: [31] is not allowed")
    manual = refused(lightning_module(pl, manual=True), clip="norm:1")
    assert manual.startswith("clip: 'norm:1' is not allowed; in manual optimisation")
    with pytest.raises(InputError, match="log: 3 is not allowed; none"):
        seqlab.lightning_callback(torch.ones(3, 1, 3), log=3)


def test_a_callback_goes_to_other_processes(pl: Any) -> None:
    reach = seqlab.lightning_callback(torch.ones(3, 1, 3), module="net", interval=7)
    other = pickle.loads(pickle.dumps(reach))
    assert isinstance(other, pl.Callback)
    assert type(other) is type(reach)
    assert other.__reduce__()[0].keywords == {"module": "net", "clip": None, "interval": 7}


def test_only_the_first_of_several_devices_looks(pl: Any) -> None:
    class Other:
        strategy, is_global_zero, gradient_clip_val = None, False, None

    reach = seqlab.lightning_callback(torch.ones(3, 1, 3), module="net")
    model = lightning_module(pl)
    reach.on_fit_start(Other(), model)
    reach.on_before_optimizer_step(Other(), model, None)
    reach.on_train_end(Other(), model)
    assert reach.history == []

    class FSDPStrategy:
        pass

    Other.strategy = FSDPStrategy()  # type: ignore[assignment]
    with pytest.raises(InputError, match="strategy: 'FSDPStrategy' is not allowed"):
        reach.on_fit_start(Other(), model)


def test_one_callback_serves_every_lightning_that_is_loaded(
    pl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = types.ModuleType("pytorch_lightning")
    other.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", other)
    reach = seqlab.lightning_callback(torch.ones(3, 1, 3))
    assert isinstance(reach, pl.Callback)
    assert isinstance(reach, other.Callback)


def test_without_lightning_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqlab.probes import lightning

    monkeypatch.setattr(lightning, "PACKAGES", ("no_such_lightning", "nor_this"))
    with pytest.raises(InputError, match="no_such_lightning or nor_this is needed"):
        seqlab.lightning_callback(torch.ones(3, 1, 3))
