"""A training state as a Hugging Face checkpoint in half precision. python save.py STATE_FILE OUT"""
import sys, torch
from model import load_tokenizer, make_model

model = make_model(load_tokenizer().get_vocab_size())
model.load_state_dict(torch.load(sys.argv[1])['model'])
model.half().save_pretrained(sys.argv[2])
