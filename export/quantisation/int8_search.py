"""Which products may be int8? Those without which nothing is lost: found one group at a time, then together.

1. Activations are smoothed wherever they can be, unless the whole model in int8 is better without.
2. Each group of products is quantised alone, and the actions are judged: its *sensitivity*.
3. Groups are ordered by sensitivity, and as many of the least sensitive are quantised as the budget allows together.
   The number is found by halving, because the error grows with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from saccade.export.lowering.int8 import lower_to_int8
from saccade.export.lowering.products import find_products
from saccade.export.lowering.smoothing import ProductGroup, divide_norms, find_groups, smoothing_scales
from saccade.export.quantisation.activations import as_rows, observe
from saccade.export.quantisation.judgement import ActionRuler, worst
from saccade.export.quantisation.trajectory import ProfileRunner, StepRecord
from saccade.proto.manifest import Manifest, ProfileSpec

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Int8Choice:
    """What becomes int8.

    Args:
        groups: Groups that do.
        kept: Names of the products that stay in float32.
        smoothing: What the inputs of weights are multiplied with, by product.
        norms: What constants of norms are divided by, by their name.
    """

    groups: tuple[ProductGroup, ...]
    kept: frozenset[str]
    smoothing: Mapping[str, NDArray[np.float32]]
    norms: Mapping[str, NDArray[np.float32]]

    def apply(self, model: ir.Model) -> None:
        """Lower a graph of the bundle in place."""
        divide_norms(model, self.norms)
        lower_to_int8(model, kept=self.kept, smoothing=self.smoothing)


@dataclass(frozen=True)
class Sensitivity:
    """What quantising one group alone does.

    Args:
        group: The group.
        share: Largest error of any action dimension in any judged profile, as a share of its range.
    """

    group: ProductGroup
    share: float


class Int8Search:
    """Finds what may be int8.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        records: Control steps of the canonical graphs on calibration frames, by profile.
        ruler: Measures differences of actions.
        judged: Names of the profiles that judge, among those of ``records``.
    """

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        records: Mapping[str, Sequence[StepRecord]],
        ruler: ActionRuler,
        judged: Sequence[str],
    ) -> None:
        self._bundle, self._manifest, self._records, self._ruler = bundle, manifest, records, ruler
        self._judged = [manifest.profile(name) for name in judged]
        models = [ir.load(bundle / graph) for graph in manifest.graphs]
        self.groups = find_groups(models)
        self._weights = {product.name: product for model in models for product in find_products(model)}
        self._scales = self._smoothing_scales()
        whole = self.choice(self.groups)
        unsmoothed = replace(whole, smoothing={}, norms={})
        if self.error(unsmoothed) <= self.error(whole):
            self._scales = {}

    def choice(self, groups: Sequence[ProductGroup]) -> Int8Choice:
        """Return what becomes of a bundle if some groups are quantised."""
        chosen = {name for group in groups for name in group.products}
        scaled = [group for group in groups if group in self._scales]
        return Int8Choice(
            groups=tuple(groups),
            kept=frozenset(self._weights) - chosen,
            smoothing={name: self._scales[group] for group in scaled for name in group.products},
            norms={name: self._scales[group] for group in scaled for name in group.norms},
        )

    def sensitivities(self, tell: Tell) -> list[Sensitivity]:
        """Quantise each group alone; the least sensitive comes first.

        Args:
            tell: Told how many groups are done.
        """
        found = []
        for done, group in enumerate(self.groups):
            found.append(Sensitivity(group, self.error(self.choice([group]))))
            tell("one group at a time", done + 1, len(self.groups))
        return sorted(found, key=lambda each: each.share)

    def largest_within(self, sensitivities: Sequence[Sensitivity], budget: float, tell: Tell) -> Int8Choice:
        """Return the choice with most groups, the least sensitive first, whose error together is within a budget.

        Args:
            sensitivities: Groups in order.
            budget: Largest error of any action dimension, as a share of its range.
            tell: Told of the tries.
        """
        within, beyond = 0, len(sensitivities) + 1
        while beyond - within > 1:
            tried = (within + beyond) // 2
            fits = self.error(self.choice([each.group for each in sensitivities[:tried]])) <= budget
            within, beyond = (tried, beyond) if fits else (within, tried)
            tell("groups together", within, len(sensitivities))
        return self.choice([each.group for each in sensitivities[:within]])

    def error(self, choice: Int8Choice) -> float:
        """Return the largest error of any action dimension in any judged profile, as a share of its range."""
        judgements = {}
        for profile in self._judged:
            runner = ProfileRunner(self._bundle, self._manifest, profile, self._lowered(profile, choice))
            judgements[profile.name] = self._ruler.judge(self._records[profile.name], runner)
        return worst(judgements)

    def _lowered(self, profile: ProfileSpec, choice: Int8Choice) -> dict[str, ir.Model]:
        models = {stage.graph: ir.load(self._bundle / stage.graph) for stage in profile.stages}
        for model in models.values():
            choice.apply(model)
        return models

    def _smoothing_scales(self) -> dict[ProductGroup, NDArray[np.float32]]:
        largest = self._largest_activations()
        return {
            group: smoothing_scales(
                np.max([largest[name] for name in group.products], axis=0),
                [self._weights[name].weight for name in group.products],
            )
            for group in self.groups
            if group.norms and all(name in largest for name in group.products)
        }

    def _largest_activations(self) -> dict[str, NDArray[np.float64]]:
        """Return the largest absolute value of each input of each product, over all profiles and frames."""
        largest: dict[str, NDArray[np.float64]] = {}
        for profile in self._manifest.profiles:
            if profile.name not in self._records:
                continue
            for stage in profile.stages:
                products = find_products(ir.load(self._bundle / stage.graph))
                values = {value.name or "" for product in products for value in product.activations}
                seen: dict[str, NDArray[np.float64]] = {}
                for found in observe(
                    self._bundle / stage.graph, stage, self._records[profile.name], sorted(values)
                ):
                    for name, activation in found.items():
                        most = np.abs(as_rows(activation)).max(axis=0).astype(np.float64)
                        seen[name] = np.maximum(seen.get(name, 0.0), most)
                for product in products:
                    for value in product.activations:
                        largest[product.name] = np.maximum(
                            largest.get(product.name, 0.0), seen[value.name or ""]
                        )
        return largest
