"""The linear recurrent unit. Its state is (Re h, Im h), and so are its adjoints."""

import numpy as np
from naive_cell import Cell, Saved, Shapes
from naive_functions import Array, Params, State


def eigenvalue(p: Params) -> tuple[Array, Array]:
    """Re and Im of lambda = exp(-exp(nu_log) + i exp(theta_log))."""
    size, phase = np.exp(-np.exp(p["nu_log"])), np.exp(p["theta_log"])
    return size * np.cos(phase), size * np.sin(phase)


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = lambda h + gamma B x, y = Re(C h') + D x  (Orvieto et al. 2023)."""
    h_re, h_im = state
    l_re, l_im = eigenvalue(p)
    gamma = np.exp(p["gamma_log"])
    u_re, u_im = x @ p["B_re"].T, x @ p["B_im"].T
    new_re = l_re * h_re - l_im * h_im + gamma * u_re
    new_im = l_re * h_im + l_im * h_re + gamma * u_im
    y = new_re @ p["C_re"].T - new_im @ p["C_im"].T + x @ p["D"].T
    saved = {"x": x, "h_re": h_re, "h_im": h_im, "u_re": u_re, "u_im": u_im}
    saved |= {"new_re": new_re, "new_im": new_im, "C_re": p["C_re"], "C_im": p["C_im"]}
    return (new_re, new_im), y, saved


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    (l_re, l_im), gamma = eigenvalue(p), np.exp(p["gamma_log"])
    size, phase = np.exp(p["nu_log"]), np.exp(p["theta_log"])
    g_re = handed[0] + gy @ p["C_re"]
    g_im = handed[1] - gy @ p["C_im"]
    g_l_re = (g_re * s["h_re"] + g_im * s["h_im"]).sum(axis=0)
    g_l_im = (g_im * s["h_re"] - g_re * s["h_im"]).sum(axis=0)
    grads = {
        # d lambda = lambda (-exp(nu_log) d nu_log + i exp(theta_log) d theta_log)
        "nu_log": -size * (g_l_re * l_re + g_l_im * l_im),
        "theta_log": phase * (g_l_im * l_re - g_l_re * l_im),
        "gamma_log": gamma * (g_re * s["u_re"] + g_im * s["u_im"]).sum(axis=0),
        "B_re": (gamma * g_re).T @ s["x"],
        "B_im": (gamma * g_im).T @ s["x"],
        "C_re": gy.T @ s["new_re"],
        "C_im": -gy.T @ s["new_im"],
        "D": gy.T @ s["x"],
    }
    g_x = (gamma * g_re) @ p["B_re"] + (gamma * g_im) @ p["B_im"] + gy @ p["D"]
    return (l_re * g_re + l_im * g_im, l_re * g_im - l_im * g_re), g_x, grads


def push(p: Params, s: Saved, v: State) -> State:
    l_re, l_im = eigenvalue(p)
    return l_re * v[0] - l_im * v[1], l_re * v[1] + l_im * v[0]


def shapes(hidden: int, inputs: int, state: int) -> Shapes:
    modes, into, out = (hidden,), (hidden, inputs), (hidden, hidden)
    return {
        "nu_log": modes,
        "theta_log": modes,
        "gamma_log": modes,
        "B_re": into,
        "B_im": into,
        "C_re": out,
        "C_im": out,
        "D": into,
    }


def parts(p: Params) -> Shapes:
    return {"real": p["nu_log"].shape, "imag": p["nu_log"].shape}


def loss(s: Saved, gy: Array) -> State:
    return gy @ s["C_re"], -gy @ s["C_im"]


def fade(p: Params) -> None:
    p["nu_log"] += 2


def shut(p: Params) -> None:
    p["nu_log"][:] = 10  # exp(-exp(10)) is no number


CELL = Cell(
    step,
    pull,
    push,
    shapes,
    parts=parts,
    loss=loss,
    gate_bias="nu_log",
    recurrent="nu_log",
    fade=fade,
    shut=shut,
)
