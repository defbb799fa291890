"""A simulated exchange: strict where VALR is, seeded, and able to misbehave on request.

It shares no decoding, signing or amounts with the recorder's own code, or it would agree with its
mistakes. Inside out: `books`, `orders` and `market` are state; `trading` and `transfers` change it;
`engine` takes commands and returns the frames that follow; all of that is pure. `hub` is a running
exchange with its connections (`peer`), `session` is what is reported on one, `server` the port,
`rest` and `control` its HTTP paths.
"""

from recorder.simulator.config import Flood, SimulatorConfig, Step
from recorder.simulator.faults import COMMAND_FAULTS, GARBAGE, REST_FAULTS, Faults, script_from
from recorder.simulator.hub import Simulator
from recorder.simulator.server import serve

__all__ = [
    "COMMAND_FAULTS",
    "GARBAGE",
    "REST_FAULTS",
    "Faults",
    "Flood",
    "Simulator",
    "SimulatorConfig",
    "Step",
    "script_from",
    "serve",
]
