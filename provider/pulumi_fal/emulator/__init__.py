"""An emulator of fal Compute: machines that cost nothing, with time and faults in your hands.

`python -m pulumi_fal.emulator` runs it, `server.EmulatorServer` runs it inside a test. Both need
the extra `emulator`; `state` and `faults` need nothing but the standard library.
"""
