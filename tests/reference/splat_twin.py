"""A cloud's picture as plain loops: one point, one pixel at a time, with an explicit z-buffer."""

import math

import numpy as np


def draw_cloud(coord, color, *, right, up, half_width, size_px, point_size, background):
    toward_viewer = np.cross(right, up)
    picture = np.empty((size_px, size_px, 3))
    picture[:] = background
    nearest = np.full((size_px, size_px), -math.inf)
    px_per_unit = size_px / (2 * half_width)
    diameter = point_size * px_per_unit
    for point, rgb in zip(coord.double().numpy(), color.double().numpy(), strict=True):
        middle_column = math.floor((point @ right + half_width) * px_per_unit)
        middle_row = math.floor((half_width - point @ up) * px_per_unit)
        nearness = point @ toward_viewer
        for row in range(size_px):
            for column in range(size_px):
                distance = math.hypot(row - middle_row, column - middle_column)
                if distance <= max(diameter / 2, 0.5) and nearness > nearest[row, column]:
                    nearest[row, column] = nearness
                    picture[row, column] = rgb
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)
