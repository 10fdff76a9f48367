"""Tasks over made-up tools whose calls build on each other, in structures that are drawn and not listed.

The templates in `agent` are a few structures over real names, and what is trained on them alone solves no other one.
Here the tools, how many values go through them and how often, and what is done with what they find are all drawn anew,
so that putting calls together is learned apart from any structure.

`composed_chain` gives calls that take what earlier ones returned; `composed_work` arithmetic on what is found. What
training holds back elsewhere is held back here: three calls one after another, four changes, three things on a bill.
"""

from builtin_pair.composed.hop_tasks import composed_chain
from builtin_pair.composed.work_tasks import composed_work

__all__ = ["composed_chain", "composed_work"]
