"""The options of the training of deep stacks, a row each: a new option is a row here and a field of
TrainSpec.

Stacks are as `seqlab depth` has them, updates as `seqlab learn` has them.
"""

from dataclasses import replace

from seqlab.spec.learn_table import LEARN_TABLE
from seqlab.spec.option import Option, Table
from seqlab.spec.stack_table import STACK_TABLE, STACKS, flag
from seqlab.spec.table import TABLE
from seqlab.tasks import CLASSES

# A Transformer's input is a sequence of tokens, of which an update needs several.
TRAINED = {
    name: replace(stack, options=stack.options | {"sequences"})
    if "tokens" in stack.options
    else stack
    for name, stack in STACKS.items()
}


def _having(name: str) -> str:
    return ", ".join(stack.name for stack in TRAINED.values() if name in stack.options)


TRAIN_TABLE: Table = Table(
    TRAINED,
    (
        STACK_TABLE["arch"],
        replace(
            STACK_TABLE["steps"], help="Train stacks of one depth alone.", label="largest depth"
        ),
        replace(
            STACK_TABLE["hidden"],
            help=f"{STACK_TABLE['hidden'].help[:-1]}; inputs have as many, {CLASSES} or more.",
        ),
        replace(
            STACK_TABLE["batch"],
            help=f"{_having('batch')}: inputs of an update, new ones each time.",
            default=64,
            default_text=None,
            modest=64,
        ),
        replace(
            STACK_TABLE["tokens"], help=f"{_having('tokens')}: tokens of a sequence.", default=16
        ),
        STACK_TABLE["heads"],
        replace(
            LEARN_TABLE["sequences"],
            help=f"{_having('sequences')}: sequences of an update, new ones each time.",
        ),
        replace(STACK_TABLE["networks"], help="Networks trained under each rule.", default=8),
        *(
            STACK_TABLE[name]
            for name in (
                "seed",
                "activation",
                "init",
                "gain",
                "bias_scale",
                "norm",
                "place",
                "order",
                "alpha",
            )
        ),
        Option(
            "frozen",
            flag,
            "Train the head alone, on layers that stay as they are drawn.",
            read=bool,
            label="frozen",
            axis_rank=4,
        ),
        LEARN_TABLE["optimizer"],
        replace(LEARN_TABLE["lr"], help=LEARN_TABLE["lr"].help.replace("length", "depth")),
        *(LEARN_TABLE[name] for name in ("momentum", "eps", "schedule")),
        replace(
            LEARN_TABLE["updates"],
            help="Updates at most; a depth ends once all networks have solved it or diverged.",
            default=1000,
            modest=1000,
        ),
        replace(
            LEARN_TABLE["solved"],
            help=f"Share of ln {CLASSES}, the loss of an answer that ignores its inputs, under "
            "which the classes are learned.",
            default=0.5,
        ),
        LEARN_TABLE["trace"],
        replace(LEARN_TABLE["clip"], default=("none",)),
        replace(
            TABLE["lengths"],
            help="A:B:N (N depths from A to B, evenly spaced in log), or a list: 2,5,10. Each has "
            "networks of its own.",
            default_text=None,
            spelled="depths",
        ),
        LEARN_TABLE["dtype"],
    ),
)
