"""Flies JSBSim's F450 a step at a time: four numbers in (aileron, elevator, rudder, throttle), ten out (north, east, down in metres; the
same as velocities; roll, pitch, yaw in radians; yaw rate), little-endian doubles. Ends when its input does."""
import math
import os
import struct
import sys

import jsbsim

FOOT = 0.3048
# The ellipsoid's radii at this place, in metres: along a meridian, and across.
ALONG, ACROSS = 6367000.0, 6389000.0

step, height = float(sys.argv[1]), float(sys.argv[2])
# What JSBSim prints must not come between the numbers.
numbers = sys.stdout.buffer
sys.stdout = sys.stderr
jsbsim.FGJSBBase().debug_lvl = 0
# The package holds its aircraft, wherever it is installed.
model = jsbsim.FGFDMExec(os.path.dirname(jsbsim.__file__))
model.set_debug_level(0)
if not model.load_model("F450"):
    sys.exit("JSBSim has no F450")
model.set_dt(step)
model["ic/lat-geod-deg"], model["ic/long-gc-deg"] = 45.06, 7.66
model["ic/terrain-elevation-ft"], model["ic/h-agl-ft"], model["ic/psi-true-deg"] = 0.0, height / FOOT, 0.0
if not model.run_ic():
    sys.exit("JSBSim does not begin")
model["propulsion/set-running"] = -1
model["fcs/ScasEngage"] = 1.0
latitude, longitude = model["position/lat-geod-rad"], model["position/long-gc-rad"]


def tell():
    yaw = model["attitude/psi-rad"]
    numbers.write(struct.pack(
        "<10d",
        (model["position/lat-geod-rad"] - latitude) * ALONG,
        (model["position/long-gc-rad"] - longitude) * ACROSS * math.cos(latitude),
        -model["position/h-agl-ft"] * FOOT,
        model["velocities/v-north-fps"] * FOOT,
        model["velocities/v-east-fps"] * FOOT,
        model["velocities/v-down-fps"] * FOOT,
        model["attitude/phi-rad"],
        model["attitude/theta-rad"],
        yaw - 2 * math.pi if yaw > math.pi else yaw,
        model["velocities/r-rad_sec"],
    ))
    numbers.flush()


tell()
while len(controls := sys.stdin.buffer.read(32)) == 32:
    aileron, elevator, rudder, throttle = struct.unpack("<4d", controls)
    model["fcs/aileron-cmd-norm"] = aileron
    model["fcs/elevator-cmd-norm"] = elevator
    model["fcs/rudder-cmd-norm"] = rudder
    model["fcs/throttle-cmd-norm"] = throttle
    # The F450's yaw loop reads a gyroscope that the model itself does not have.
    model["sensor/imu/gyroZ_rps"] = model["velocities/r-rad_sec"]
    if not model.run():
        sys.exit("JSBSim has stopped")
    tell()
