"""The paper's figures and further studies, one short script each."""
