"""The gradient with respect to every input, against the whole Jacobian of the last output."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive import Array
from probing import random
from probing import seeded as seeded  # it acts on every test
from surroundings import surroundings

from seqlab.errors import InputError
from seqlab.probes.inputs import inputs
from seqlab.probes.steps import Walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

# Some hundreds of sums and products, rounded by 1.1e-16 each, in an order of their own: 1e-13 of a
# norm that has lost at most four digits against the greatest of its terms.
NEAR = 1e-9
# The same operations on the same numbers, or powers of two; the logarithm alone is rounded.
SAME = 1e-12


def reads(readout: Any) -> Callable[[Any], Any]:
    return lambda y: (y * readout).sum()


def close(found: Array, wanted: Array, within: float) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=within)


def slow(last: Callable[[Any], Any], x: Any, time: int, readout: Any, length: int) -> list[float]:
    """By lag, of the loss `(y * readout).sum()`: the Jacobian of all entries of y = `last(x)`."""
    piece = x.narrow(time, 0, length).contiguous()
    jacobian = torch.autograd.functional.jacobian(last, piece)
    readout = readout.expand(jacobian.shape[: jacobian.dim() - x.dim()])
    gradient = torch.tensordot(readout, jacobian, dims=readout.dim())
    entries = [gradient.select(time, length - 1 - lag).reshape(-1) for lag in range(length)]
    norms = [math.hypot(*each.tolist()) for each in entries]
    return [math.log(norm) if norm else -math.inf for norm in norms]


def agree(found: Walk, last: Callable, x: Any, time: int, readout: Any, lengths: list) -> None:
    assert found.lengths.tolist() == lengths
    assert found.lags.tolist() == list(range(max(lengths)))
    assert found.fired.tolist() == [0] * len(lengths)
    for row, length in zip(found.log_norm, lengths, strict=True):
        close(row[:length], np.array(slow(last, x, time, readout, length)), NEAR)
        assert np.isnan(row[length:]).all()
    np.testing.assert_array_equal(found.parts["input"], found.log_norm)


class Transformer(nn.Module):
    """Two blocks with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2)

    def forward(self, x: Any) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.blocks(x, mask=mask, is_causal=True)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[12], [5, 12, 1]])
def test_a_bidirectional_lstm_is_its_jacobian(batch_first: bool, lengths: list[int]) -> None:
    options = {"bidirectional": True, "batch_first": batch_first, "dtype": torch.float64}
    net, time = nn.LSTM(3, 4, 2, **options), int(batch_first)
    x, readout = random(*((2, 15, 3) if batch_first else (15, 2, 3))), random(2, 8)
    found = inputs(net, x, time, reads(readout), lengths)
    agree(found, lambda x: net(x)[0].select(time, -1), x, time, readout, lengths)


@pytest.mark.parametrize("lengths", [[10], [10, 4]])
def test_a_transformer_is_its_jacobian(lengths: list[int]) -> None:
    net, x, readout = Transformer().double().eval(), random(3, 10, 8), random(8)
    found = inputs(net, x, 1, reads(readout), lengths)
    agree(found, lambda x: net(x)[:, -1], x, 1, readout, lengths)


def test_a_convolution_has_its_time_last() -> None:
    net = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.GELU(), nn.Conv1d(4, 2, 5, padding=2))
    net, x, readout = net.double(), random(2, 3, 9), random(2)
    found = inputs(net, x, 2, reads(readout), [9])
    assert np.isneginf(found.log_norm[0]).tolist() == [False] * 4 + [True] * 5  # 3 steps each way
    agree(found, lambda x: net(x)[..., -1], x, 2, readout, [9])


class Recurrence(nn.Module):
    """h_t = a h_{t-1} + x_t, a a power of two: the gradient at a lag is a^lag, rounded nowhere."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, x: Any) -> Any:
        h, seen = torch.zeros_like(x[0]), []
        for x_t in x:
            h = self.a * h + x_t
            seen.append(h)
        return torch.stack(seen)


def test_what_is_below_the_smallest_number_is_minus_infinity() -> None:
    """Of 4^-lag the square underflows from lag 269 on, and the number itself from 538."""
    x = random(900, 2, 3)
    found = inputs(Recurrence(0.25), x, 0, reads(1.0), [900]).log_norm[0]
    lags = np.arange(538)
    close(found[:538], math.log(6) / 2 - lags * math.log(4), SAME)
    assert np.isneginf(found[538:]).all()
    assert len(found) > 800


def test_what_is_beyond_the_greatest_number_is_nan() -> None:
    """Of 4^lag the square overflows from lag 256 on, and the number itself from 512."""
    x = random(600, 1, 3) / 1e6
    found = inputs(Recurrence(4.0), x, 0, reads(1.0), [600]).log_norm[0]
    close(found[:512], math.log(3) / 2 + np.arange(512) * math.log(4), SAME)
    assert np.isnan(found[512:]).all()


def test_the_dtype_is_that_of_x() -> None:
    """2^-150 is no float32."""
    found = inputs(Recurrence(0.25), random(100, 1, 3).float(), 0, reads(1.0), [100]).log_norm[0]
    assert np.isneginf(found).tolist() == [lag > 74 for lag in range(100)]


# Where the output's time is.


class Classifier(nn.Module):
    """One vector for a sequence."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, classes)

    def forward(self, x: Any) -> Any:
        return self.out(self.lstm(x)[0].mean(dim=1))


@pytest.mark.parametrize("lengths", [[7], [7, 3], [1], [6]])
@pytest.mark.parametrize("classes", [5, 7, 1])
def test_an_output_without_time_is_taken_whole(classes: int, lengths: list[int]) -> None:
    """As many classes as steps are no axis of time."""
    net, x, readout = Classifier(classes).double(), random(2, 7, 3), random(2, classes)
    agree(inputs(net, x, 1, reads(readout), lengths), net, x, 1, readout, lengths)


def test_as_many_sequences_as_steps_are_no_axis_of_time() -> None:
    net, x, readout = Classifier(5).double(), random(6, 6, 3), random(6, 5)

    def first(x: Any) -> Any:
        return net(x.transpose(0, 1))

    for lengths in ([6], [6, 2]):
        agree(inputs(first, x, 0, reads(readout), lengths), first, x, 0, readout, lengths)


@pytest.mark.parametrize("lengths", [[7], [7, 3]])
def test_an_output_of_fewer_or_more_axes_may_have_time(lengths: list[int]) -> None:
    x, weights = random(2, 7, 3), random(3)

    def fewer(x: Any) -> Any:
        return (x.view(-1, 3) @ weights).view(2, -1).tanh().cumsum(1).sin()

    readout = random(2)
    found = inputs(fewer, x, 1, reads(readout), lengths)
    agree(found, lambda x: fewer(x)[:, -1], x, 1, readout, lengths)

    def more(x: Any) -> Any:
        return x.cumsum(1).sin()[..., None] * weights

    readout = random(2, 3)
    found = inputs(more, x[..., 0], 1, reads(readout), lengths)
    agree(found, lambda x: more(x)[:, -1], x[..., 0], 1, readout, lengths)


def test_a_net_of_one_number_of_steps_is_called_with_no_other() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(21, 5)).double()
    x, readout = random(2, 7, 3), random(2, 5)
    agree(inputs(net, x, 1, reads(readout), [7]), net, x, 1, readout, [7])

    def mixed(x: Any) -> Any:
        assert x.shape[1] == 7
        return x.flatten(1).cumsum(1).sin().view(x.shape)

    readout = random(3)
    found = inputs(mixed, x, 1, reads(readout), [7])
    agree(found, lambda x: mixed(x)[:, -1], x, 1, readout, [7])


# What is left as it was.


class Interrupted(BaseException):
    pass


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        raise Interrupted


class Fails(nn.Module):
    """A net that draws numbers, changes its input in place, and may fail at its second call."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.calls = where, 0
        self.rnn = nn.RNN(3, 4, bidirectional=True, batch_first=True)

    def forward(self, x: Any) -> Any:
        self.calls += 1
        torch.rand(2)
        assert torch.get_num_threads() == 1
        y, _ = self.rnn(x.mul_(2))
        if self.calls > 1:
            if self.where == "forward":
                raise Interrupted
            if self.where == "backward":
                return Failing.apply(y)
            if self.where == "refusal":
                return y + 1
        return y


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("where", ["", "forward", "backward", "refusal", "loss", "progress"])
def test_everything_is_as_before(where: str, grad: bool, training: bool) -> None:
    net, x = Fails(where).double().train(training), random(2, 9, 3).requires_grad_()
    first, *others = net.parameters()
    first.requires_grad_(False)
    for p in others[1:]:
        p.grad = torch.ones_like(p)
    net.register_forward_hook(lambda *given: None)

    def loss(y: Any) -> Any:
        if where == "loss":
            raise Interrupted
        return y.sum()

    seen = []

    def progress(fraction: float, what: str) -> None:
        seen.append(fraction)
        if where == "progress":
            raise Interrupted

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before, values = surroundings(net), x.tolist()
    with torch.set_grad_enabled(grad):
        if where:
            with pytest.raises(InputError if where == "refusal" else Interrupted):
                inputs(net, x, 1, loss, [9, 4], progress)
        else:
            inputs(net, x, 1, loss, [9, 4], progress)
            assert seen == sorted(seen)
            assert seen[-1] == 1
    assert surroundings(net) == before
    torch.set_num_threads(threads)
    assert (x.requires_grad, x.grad, x.tolist()) == (True, None, values)


def test_inference_mode_is_no_obstacle() -> None:
    net, x = Transformer().double().eval(), random(1, 5, 8)
    wanted = inputs(net, x, 1, reads(1.0), [5]).log_norm
    with torch.inference_mode():
        found = inputs(net, x.clone(), 1, reads(1.0), [5]).log_norm
        assert torch.is_inference_mode_enabled()
    assert found.tobytes() == wanted.tobytes()


# Refusals.


def refused(net: Callable, x: Any, lengths: list, time: int = 0, loss: Any = None) -> str:
    with pytest.raises(InputError) as error:
        inputs(net, x, time, loss or reads(1.0), lengths)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_lengths_and_losses_are_refused() -> None:
    net, x = Recurrence(0.5), random(20, 1, 3)
    for lengths in ([], [0], [21], [5, 5], [2.0], [True]):
        assert refused(net, x, lengths).startswith("lengths: ")
    assert refused(net, x, [20], loss=lambda y: y).endswith("must return one number, a tensor")
    assert np.isneginf(inputs(net, x, 0, lambda y: torch.zeros(1), [20]).log_norm).all()


def test_outputs_of_another_form_are_refused() -> None:
    x = random(9, 2, 3)
    said = (
        "module: 'an answer of type {}' is not allowed; it must return a tensor, or a tuple of wh"
    )
    assert refused(lambda x: {"y": x}, x, [9]).startswith(said.format("dict"))
    assert refused(lambda x: (1, None), x, [9]).startswith(said.format("tuple"))
    said = "module: 'an output of shape (7, 2, 3) for 9 steps' is not allowed; axis 0 of its output"
    assert refused(lambda x: x[2:], x, [9, 5]).startswith(said)


def test_an_output_that_does_not_depend_on_x_is_refused() -> None:
    x, net = random(5, 1, 3), nn.Linear(3, 3).double()
    said = "module: 'an output that is no function of x' is not allowed; a gradient must come back"
    for broken in (lambda x: x.detach(), lambda x: x.argmax(-1), lambda x: net(x.detach())):
        assert refused(broken, x, [5]).startswith(said)


def test_what_answers_otherwise_at_a_second_call_is_refused() -> None:
    x = random(20, 1, 3)
    said = "module: 'another output at its second call' is not allowed; equal calls must answer"
    assert refused(lambda x: nn.functional.dropout(x, 0.5), x, [20]).startswith(said)
