"""From files to a CLIP: archives, layouts, what they declare, the hub, and the embedded `mini`."""
