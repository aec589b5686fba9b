# SPDX-License-Identifier: Apache-2.0
"""The decoders: one file for each published method, with its released code's behaviour beside it, and one for each of ours."""
