# SPDX-License-Identifier: Apache-2.0
"""Property tests have no deadline: how long an example takes says more about the machine than about the code.

With --hypothesis-profile nightly they generate fifty times as many examples.
"""
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("nightly", deadline=None, max_examples=5000, print_blob=True)
settings.load_profile("default")
