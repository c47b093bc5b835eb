"""Every error a user can meet, in one tree: by who has to act."""

from pellucid.errors.base import *
from pellucid.errors.checks import *
from pellucid.errors.data import *
from pellucid.errors.machine import *
from pellucid.errors.training import *
from pellucid.errors.user import *
