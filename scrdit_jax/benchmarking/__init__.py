"""How fast each sampler is on the device at hand, how near its limit, and what that costs in quality."""
