"""The two networks of Real-ESRGAN, with the parameter names of the released weights."""
