"""The algebra of attention: the softmax of scores, and its way back.

Columns are the tokens that look, rows those that are looked at. w = e^(s - max)/sum; the adjoint of
the scores is w (g - sum of w g) (Vaswani et al. 2017, eq. 1).
"""


def make_softmax(compiled, exp):
    """(softmax, back), for a backend: `compiled` compiles a function that its kernels call.

    Each of the first `count` columns of `scores` (T, C), times `scale`, becomes its softmax in
    place, with `sums` (2, C) as scratch; the rest become zero. `back` takes g, the adjoint of the
    weights, in place to that of the unscaled scores.
    """

    @compiled
    def softmax(scores, sums, count, scale):
        rows = scores.shape[0]
        most, total = sums[0, :count], sums[1, :count]
        for c in range(count):
            most[c] = scores[0, c]
            total[c] = 0
        for t in range(1, rows):
            for c in range(count):
                most[c] = max(most[c], scores[t, c])
        for t in range(rows):
            for c in range(count):
                scores[t, c] = exp((scores[t, c] - most[c]) * scale)
                total[c] += scores[t, c]
        for t in range(rows):
            for c in range(count):
                scores[t, c] /= total[c]
            for c in range(count, scores.shape[1]):
                scores[t, c] = 0

    @compiled
    def back(g, weights, sums, count, scale):
        rows, mean = g.shape[0], sums[0, :count]
        for c in range(count):
            mean[c] = 0
        for t in range(rows):
            for c in range(count):
                mean[c] += weights[t, c] * g[t, c]
        for t in range(rows):
            for c in range(count):
                g[t, c] = weights[t, c] * (g[t, c] - mean[c]) * scale
            for c in range(count, g.shape[1]):
                g[t, c] = 0

    return softmax, back
