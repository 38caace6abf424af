"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.record import AttentionMap, Recording, record

__all__ = ["AttentionMap", "Recording", "record"]
