"""The algebra of normalisation: vectors side by side, each normalised over its own numbers.

y = (z - mean)/scale, scale = sqrt(variance + eps). The adjoint keeps of g what neither moves the
mean nor stretches: (g - mean(g) - y mean(g y))/scale, which at eps = 0 has nothing along 1 and y.
Two numbers at eps = 0 are +-1 whatever they were, and a constant is 0: nothing goes back then, and
that is an exact zero, not what rounding makes of it. Means are taken of differences from the first
number for that reason: a sum of equal numbers, divided by their count, is another number.
"""

import math


def make_norm(compiled):
    """(along, back_along, across, back_across), for a backend: `compiled` compiles a function that
    its kernels call. All work in place.

    `along` normalises each row of z (n, C) over its first `count` columns, `across` each of the
    first `count` columns over all rows, with `sums` (2, C) as scratch; they leave 1/scale of each
    in `inverses`. The way back takes g, of the shape of the normalised y.
    """

    @compiled
    def inverse(variance):
        """1/scale; 0 where nothing goes back, NaN for a variance beyond the range."""
        return 1.0 / math.sqrt(variance) if 0 < variance < math.inf else variance * 0.0

    @compiled
    def along(z, inverses, count, eps):
        share = z.dtype.type(1.0 / count)
        for j in range(z.shape[0]):
            row = z[j, :count]
            first, total, squares = row[0], row.dtype.type(0), row.dtype.type(0)
            for c in range(count):
                total += row[c] - first
            mean = first + total * share
            for c in range(count):
                row[c] -= mean
                squares += row[c] * row[c]
            factor = row.dtype.type(inverse(squares * share + eps))
            inverses[j] = factor
            for c in range(count):
                row[c] *= factor

    @compiled
    def back_along(g, y, inverses, count, eps):
        share = g.dtype.type(0.0 if count == 2 and eps == 0 else 1.0)
        for j in range(g.shape[0]):
            row, out = g[j, :count], y[j, :count]
            total, product = row.dtype.type(0), row.dtype.type(0)
            for c in range(count):
                total += row[c]
                product += row[c] * out[c]
            mean, stretch = total / row.dtype.type(count), product / row.dtype.type(count)
            factor = inverses[j] * share
            for c in range(count):
                row[c] = (row[c] - mean - out[c] * stretch) * factor

    @compiled
    def across(z, inverses, sums, count, eps):
        share = z.dtype.type(1.0 / z.shape[0])
        means, squares = sums[0, :count], sums[1, :count]
        for c in range(count):
            means[c] = squares[c] = 0
        for j in range(z.shape[0]):
            for c in range(count):
                means[c] += z[j, c] - z[0, c]
        for c in range(count):
            means[c] = z[0, c] + means[c] * share
        for j in range(z.shape[0]):
            for c in range(count):
                z[j, c] -= means[c]
                squares[c] += z[j, c] * z[j, c]
        for c in range(count):
            inverses[c] = inverse(squares[c] * share + eps)
        for j in range(z.shape[0]):
            for c in range(count):
                z[j, c] *= inverses[c]

    @compiled
    def back_across(g, y, inverses, sums, count, eps):
        share = g.dtype.type(1.0 / g.shape[0])
        none = g.dtype.type(0.0 if g.shape[0] == 2 and eps == 0 else 1.0)
        means, stretches = sums[0, :count], sums[1, :count]
        for c in range(count):
            means[c] = stretches[c] = 0
        for j in range(g.shape[0]):
            for c in range(count):
                means[c] += g[j, c]
                stretches[c] += g[j, c] * y[j, c]
        for c in range(count):
            means[c] *= share
            stretches[c] *= share
        for j in range(g.shape[0]):
            for c in range(count):
                g[j, c] = (g[j, c] - means[c] - y[j, c] * stretches[c]) * (inverses[c] * none)

    return along, back_along, across, back_across
