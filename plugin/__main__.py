"""The native plugin as a folder that Pulumi runs with Python."""

from pulumi_fal.native.__main__ import main

main()
