# SPDX-License-Identifier: Apache-2.0
"""A fair trial of decoders, checkpoints or settings: planned, randomised, blinded and analysed by fieldtrial."""
