"""A table of shapes: blocks, cylinders and balls in two colours, two zones, and a belt on which two of them ride by."""

from saccade.sim.tabletop.shapes.layout import sample_layout
from saccade.sim.tabletop.shapes.look import THING_COLOURS, ZONE_COLOURS, paint
from saccade.sim.tabletop.shapes.scene import NUM_ZONES, SHAPES, ZONE_HALF_M, build_model
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tasks import INTERCEPT, PLACE, PUSH, REACH, STACK

TABLE = Table(
    name="shapes",
    data_set="saccade_shapes",
    templates=(REACH, PUSH, PLACE, STACK, INTERCEPT),
    image_px=144,
    shapes=SHAPES,
    thing_colours=THING_COLOURS,
    zone_colours=ZONE_COLOURS,
    num_zones=NUM_ZONES,
    zone_half_m=ZONE_HALF_M,
    build_model=build_model,
    sample_layout=sample_layout,
    paint=paint,
)
