"""What happens next. Pure: no asyncio, no torch, no clock, no socket; property tests drive it without a sleep."""
