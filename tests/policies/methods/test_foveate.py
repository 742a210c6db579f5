"""foveate"""
from __future__ import annotations
from saccade.policies.conformance import TokenPolicyConformance
class TestFoveate(TokenPolicyConformance):
    policy_name = "foveate"
