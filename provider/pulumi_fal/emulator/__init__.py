"""An emulator of fal Compute: its machines cost nothing, and you control time and faults.

`python -m pulumi_fal.emulator` runs it in the foreground, `server.EmulatorServer` inside a test.
Both need the extra `emulator`; `state` and `faults` need only the standard library.
"""

INSTALL = "pip install 'pulumi-fal[emulator] @ git+https://github.com/fal-ai/pulumi-fal'"
"""What installs all that the emulator needs. In a clone, '.[emulator]' is enough."""
