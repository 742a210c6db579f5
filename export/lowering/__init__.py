"""ONNX in, ONNX out: capture and rewriting of graphs; knows no family and no step."""
