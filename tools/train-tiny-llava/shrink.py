"""A training state without its optimizer, in half precision: small enough to keep between machines. python shrink.py STATE_FILE OUT_FILE

Copied to OUT/state.pt it is where train_tower.py or train_lm.py goes on from, with a fresh optimizer."""
import sys, torch

state = torch.load(sys.argv[1])
state.pop('optimizer', None)
half = lambda v: {k: half(x) for k, x in v.items()} if isinstance(v, dict) else v.half() if torch.is_tensor(v) and v.is_floating_point() else v
torch.save(half(state), sys.argv[2])
