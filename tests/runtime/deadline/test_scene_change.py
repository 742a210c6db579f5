import numpy as np
from numpy.typing import NDArray

from saccade.runtime.deadline.scene_change import SceneChange

SIDE = 64


def views(changed: int, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """One view in which so many pixels, drawn by a seed, are white."""
    pixels = np.zeros((SIDE * SIDE, 3), np.uint8)
    pixels[np.random.default_rng(seed).permutation(SIDE * SIDE)[:changed]] = 255
    return {"scene": pixels.reshape(SIDE, SIDE, 3)}


def still(count: int) -> list[dict[str, NDArray[np.uint8]]]:
    """A view in which a twentieth changes from frame to frame."""
    return [views(SIDE * SIDE // 40, seed) for seed in range(count)]


def test_what_changes_as_it_did_is_nothing_new() -> None:
    scene = SceneChange()
    assert not any(scene.is_new(frame) for frame in still(20))


def test_much_more_change_than_before_is_new_once() -> None:
    scene = SceneChange()
    for frame in still(10):
        scene.is_new(frame)
    assert scene.is_new(views(SIDE * SIDE // 2, 99))
    assert not scene.is_new(views(SIDE * SIDE // 2, 99)), "it stays as it is"


def test_a_little_after_stillness_is_nothing_new() -> None:
    scene = SceneChange()
    for _ in range(5):
        scene.is_new(views(0))
    assert not scene.is_new(views(SIDE * SIDE // 100))
    assert scene.is_new(views(SIDE * SIDE // 10, 7))


def test_one_view_of_several_is_enough_and_all_are_remembered() -> None:
    scene = SceneChange()
    for frame in still(6):
        scene.is_new({"wrist": frame["scene"], "scene": views(0)["scene"]})
    moved = {"wrist": views(SIDE * SIDE // 2, 5)["scene"], "scene": views(SIDE * SIDE // 2, 6)["scene"]}
    assert scene.is_new(moved)
    assert not scene.is_new(moved)


def test_an_episode_begins_with_nothing_to_compare_with() -> None:
    scene = SceneChange()
    for frame in still(6):
        scene.is_new(frame)
    scene.reset()
    assert not scene.is_new(views(SIDE * SIDE))
