"""The batteries that policies pass, for packages that bring their own: subclass one in a test file.

    from saccade.policies.conformance import TokenPolicyConformance

    class TestMyPolicy(TokenPolicyConformance):
        policy_name = "my_policy"

The names are those of :mod:`saccade.policies.testing`; they stay here when that room is arranged anew.
"""

from saccade.policies.testing.conformance import TokenPolicyConformance
from saccade.policies.testing.kv_conformance import KvPolicyConformance

__all__ = ["KvPolicyConformance", "TokenPolicyConformance"]
