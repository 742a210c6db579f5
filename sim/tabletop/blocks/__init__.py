"""The first table: three blocks, two zones, two distractors; nothing moves by itself. saccade-mini's."""

from saccade.sim.tabletop.blocks.layout import sample_layout
from saccade.sim.tabletop.blocks.look import BLOCK_COLOURS, ZONE_COLOURS, paint
from saccade.sim.tabletop.blocks.scene import NUM_ZONES, SHAPES, ZONE_HALF_M, build_model
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tasks import PLACE, PUSH, REACH, STACK

TABLE = Table(
    name="blocks",
    data_set="saccade_tabletop",
    templates=(REACH, PUSH, PLACE, STACK),
    image_px=120,
    shapes=SHAPES,
    thing_colours=BLOCK_COLOURS,
    zone_colours=ZONE_COLOURS,
    num_zones=NUM_ZONES,
    zone_half_m=ZONE_HALF_M,
    build_model=build_model,
    sample_layout=sample_layout,
    paint=paint,
)
