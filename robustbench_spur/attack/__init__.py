"""What attacks on a network are made of: balls, parts, the engine, whom it meets, and checks that it worked.

Names of attacks, as users write them, belong to the evaluators.
"""

from robustbench_spur.attack.ball import SAME_RADIUS as SAME_RADIUS
from robustbench_spur.attack.ball import Ball as Ball
from robustbench_spur.attack.ball import check_ball as check_ball
from robustbench_spur.attack.ball import radius_label as radius_label
from robustbench_spur.attack.tools import as_floats as as_floats
from robustbench_spur.attack.tools import attackable as attackable
from robustbench_spur.attack.tools import check_gradient as check_gradient
from robustbench_spur.attack.tools import logits_of as logits_of
from robustbench_spur.attack.tools import noise_seed as noise_seed
from robustbench_spur.attack.tools import seeded as seeded
from robustbench_spur.attack.tools import unsaturated as unsaturated
