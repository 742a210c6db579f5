"""Does an engine compute what ONNX Runtime on the CPU computes, in the units of the robot?"""
