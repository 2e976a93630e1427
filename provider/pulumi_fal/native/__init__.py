"""`pulumi-resource-fal`: a plugin on Pulumi's published protocol, for programs in any language."""
