"""A simulated exchange: strict where VALR is, seeded, and able to misbehave on request.

It shares no decoding, signing or amounts with the recorder's own code, or it would agree with its
mistakes. The core (`market`, `books`, `engine`, `frames`, `auth`) is pure; `server` is the shell.
"""

from recorder.simulator.config import SimulatorConfig
from recorder.simulator.server import Simulator, run_simulator, serve

__all__ = ["Simulator", "SimulatorConfig", "run_simulator", "serve"]
