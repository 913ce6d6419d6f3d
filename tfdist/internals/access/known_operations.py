"""The operations of TensorFlow that leave each row of the batch to itself, by their types."""

# They compute each element from the elements at its place.
_BROADCASTING = (
    "AddV2 Add Sub Mul MulNoNan RealDiv Div DivNoNan FloorDiv FloorMod Pow Maximum Minimum SquaredDifference SelectV2 "
    "Less LessEqual Greater GreaterEqual Equal NotEqual LogicalAnd LogicalOr Xlogy Xdivy Atan2"
)
BROADCASTING = frozenset(_BROADCASTING.split())
_ELEMENTWISE = (
    "Zeta Xlog1py TruncateMod TruncateDiv Tanh Tan Square Sqrt Spence Softsign Softplus Sinh Sin Sign Sigmoid "
    "Selu Rsqrt Round Rint RightShift Relu6 Relu Reciprocal Real Polygamma Neg Ndtri Mod LogicalXor LogicalNot "
    "Log1p Log Lgamma LeftShift IsNan IsInf IsFinite Invert Inv Imag Igammac IgammaGradA Igamma FresnelSin "
    "FresnelCos Floor Expm1 Expint Exp Erfinv Erfc Erf Elu Digamma Dawsn Cosh Cos Conj ComplexAbs Complex Ceil "
    "BitwiseXor BitwiseOr BitwiseAnd BesselY1 BesselY0 BesselJ1 BesselJ0 BesselK1e BesselK0e BesselK1 BesselK0 "
    "BesselI1e BesselI0e BesselI1 BesselI0 Atanh Atan Asinh Asin Angle Acosh Acos Abs Betainc Nextafter "
    "PopulationCount LeakyRelu ClipByValue ApproximateEqual AddN Select AccumulateNV2"
)
_UNCHANGED = (
    "Identity IdentityN Cast Bitcast StopGradient PreventGradient CheckNumerics EnsureShape Snapshot "
    "PlaceholderWithDefault OptimizationBarrier XlaSharding DebugIdentity DebugIdentityV2 DebugIdentityV3 "
    "DebugNumericSummary DebugNumericSummaryV2 Copy"
)
_LAYERS_AND_LOSSES = (
    "BiasAdd BiasAddV1 DepthwiseConv2dNative Dilation2D LRN L2Loss CTCLoss CTCLossV2 CTCGreedyDecoder "
    "CTCBeamSearchDecoder SparseSoftmaxCrossEntropyWithLogits SoftmaxCrossEntropyWithLogits SpaceToDepth "
    "DepthToSpace SpaceToBatchND BatchToSpaceND SpaceToBatch BatchToSpace CropAndResize GridSample "
    "DataFormatVecPermute DataFormatDimMap InTopK InTopKV2 Multinomial EditDistance"
)
_SHAPES_AND_PLACES = (
    "Pad PadV2 MirrorPad BroadcastTo OneHot Shape ShapeN Size Rank ZerosLike OnesLike Fill Range Diag DiagPart "
    "Cross Bucketize LowerBound UpperBound InvertPermutation BroadcastArgs BroadcastGradientArgs ConcatOffset "
    "UnravelIndex LinSpace ComputeAccidentalHits"
)
_TABLES = "LookupTableFindV2 ResourceGather ResourceGatherNd ReadVariableOp ParallelDynamicStitch DynamicStitch"
# The first words of their types.
_FAMILIES = (
    "Resize Image Conv MaxPool AvgPool Fractional Matrix FFT IFFT RFFT IRFFT BatchFFT Extract Adjust Fake "
    "Quantize Dequantize Random Stateless String Regex Decode Encode Parse Unicode Substr AsString RGBToHSV "
    "HSVToRGB DrawBoundingBoxes Sample Tensor Assert Print Sparse Ragged Stack Optional Nccl Collective "
    "Xla"
)
_KNOWN = frozenset(" ".join((_ELEMENTWISE, _UNCHANGED, _LAYERS_AND_LOSSES, _SHAPES_AND_PLACES, _TABLES)).split())
_BEGINNINGS = tuple(_FAMILIES.split())


def is_known(kind):
    """Returns whether operations of a type work on each row by itself, as far as they combine anything."""
    return kind in BROADCASTING or kind in _KNOWN or kind.startswith(_BEGINNINGS) or "Grad" in kind
