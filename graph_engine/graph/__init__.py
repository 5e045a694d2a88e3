"""What a workflow is. Pure: no torch, no asyncio, no input or output."""
