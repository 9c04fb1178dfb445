"""One torch thread for all tests: they are small, and threads that wait for each other only slow them."""

import torch

torch.set_num_threads(1)
