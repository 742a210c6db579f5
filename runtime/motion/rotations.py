"""Rotations as rotations: unit quaternions, the shortest turn between two, and the three numbers that a robot takes.

Quaternions are float64 ``(..., 4)``, scalar first. Formulas: Sola, "Quaternion kinematics for the error-state Kalman
filter" (1711.02508), eqs. 12, 101 and 105.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def from_vector(vector: Array) -> Array:
    """Return the quaternion of a rotation vector.

    Args:
        vector: float64 ``(..., 3)``, axis times angle, radians.
    """
    half = np.linalg.norm(vector, axis=-1, keepdims=True) / 2
    return np.concatenate([np.cos(half), np.sinc(half / np.pi) / 2 * vector], axis=-1)


def to_vector(quaternion: Array) -> Array:
    """Return the rotation vector of the shortest turn, at most pi long: float64 ``(..., 3)``.

    Args:
        quaternion: float64 ``(..., 4)``; it and its negative are one rotation.
    """
    nearest = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(nearest[..., 1:], axis=-1, keepdims=True)
    half = np.arctan2(sine, nearest[..., :1])
    vector: Array = nearest[..., 1:] * (2 * np.divide(half, sine, out=np.ones_like(sine), where=sine > 0))
    return vector


def times(left: Array, right: Array) -> Array:
    """Return the product of two quaternions: first ``right``, then ``left``, in the fixed frame."""
    a, u = left[..., :1], left[..., 1:]
    b, v = right[..., :1], right[..., 1:]
    scalar = a * b - (u * v).sum(-1, keepdims=True)
    return np.concatenate([scalar, a * v + b * u + np.cross(u, v)], axis=-1)


def inverse(quaternion: Array) -> Array:
    """Return the turn back."""
    back: Array = quaternion * np.array([1.0, -1.0, -1.0, -1.0])
    return back


def from_roll_pitch_yaw(angles: Array) -> Array:
    """Return the quaternion of turns about the fixed x, then y, then z axis.

    Args:
        angles: float64 ``(..., 3)``: roll, pitch, yaw, radians.
    """
    turned = from_vector(angles[..., :1] * np.array([1.0, 0, 0]))
    for axis, unit in ((1, [0.0, 1, 0]), (2, [0.0, 0, 1])):
        turned = times(from_vector(angles[..., axis : axis + 1] * np.array(unit)), turned)
    return turned


def to_roll_pitch_yaw(quaternion: Array) -> Array:
    """Return roll, pitch and yaw, float64 ``(..., 3)``; where pitch is a quarter turn, one of many that are equal.

    Roll is read off what yaw leaves, so that the three belong together however ill-conditioned each one is.

    Args:
        quaternion: float64 ``(..., 4)``, of unit length.
    """
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    along_x, along_y = 1 - 2 * (y * y + z * z), 2 * (x * y + w * z)
    yaw = np.arctan2(along_y, along_x)
    pitch = np.arctan2(-2 * (x * z - w * y), np.hypot(along_x, along_y))
    sine, cosine = np.sin(yaw), np.cos(yaw)
    roll = np.arctan2(
        sine * 2 * (x * z + w * y) - cosine * 2 * (y * z - w * x),
        cosine * (1 - 2 * (x * x + z * z)) - sine * 2 * (x * y - w * z),
    )
    return np.stack([roll, pitch, yaw], axis=-1)
