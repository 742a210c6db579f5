from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_BOOL: _ClassVar[DType]
    DTYPE_UINT8: _ClassVar[DType]
    DTYPE_INT32: _ClassVar[DType]
    DTYPE_INT64: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT64: _ClassVar[DType]
DTYPE_UNSPECIFIED: DType
DTYPE_BOOL: DType
DTYPE_UINT8: DType
DTYPE_INT32: DType
DTYPE_INT64: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT64: DType

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("view", "pixels")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    view: str
    pixels: Tensor
    def __init__(self, view: _Optional[str] = ..., pixels: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "sequence")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    sequence: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("wire_version", "server_version", "engine", "manifest_json", "clock_id", "server_monotonic_ns", "max_message_bytes", "is_ready", "is_owned", "is_stopped", "counters", "answerer_manifest_json", "operator_limits_json", "owner_clock")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IS_READY_FIELD_NUMBER: _ClassVar[int]
    IS_OWNED_FIELD_NUMBER: _ClassVar[int]
    IS_STOPPED_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    ANSWERER_MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_LIMITS_JSON_FIELD_NUMBER: _ClassVar[int]
    OWNER_CLOCK_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    server_version: str
    engine: str
    manifest_json: str
    clock_id: str
    server_monotonic_ns: int
    max_message_bytes: int
    is_ready: bool
    is_owned: bool
    is_stopped: bool
    counters: _containers.ScalarMap[str, int]
    answerer_manifest_json: str
    operator_limits_json: str
    owner_clock: ClockReport
    def __init__(self, wire_version: _Optional[int] = ..., server_version: _Optional[str] = ..., engine: _Optional[str] = ..., manifest_json: _Optional[str] = ..., clock_id: _Optional[str] = ..., server_monotonic_ns: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., is_ready: bool = ..., is_owned: bool = ..., is_stopped: bool = ..., counters: _Optional[_Mapping[str, int]] = ..., answerer_manifest_json: _Optional[str] = ..., operator_limits_json: _Optional[str] = ..., owner_clock: _Optional[_Union[ClockReport, _Mapping]] = ...) -> None: ...

class ClockReport(_message.Message):
    __slots__ = ("offset_ns", "uncertainty_ns", "drift_ppm", "steps")
    OFFSET_NS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_NS_FIELD_NUMBER: _ClassVar[int]
    DRIFT_PPM_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    offset_ns: int
    uncertainty_ns: int
    drift_ppm: float
    steps: int
    def __init__(self, offset_ns: _Optional[int] = ..., uncertainty_ns: _Optional[int] = ..., drift_ppm: _Optional[float] = ..., steps: _Optional[int] = ...) -> None: ...

class OpenRequest(_message.Message):
    __slots__ = ("wire_version", "client_name", "profile", "clock_id", "max_age_ns", "limits_itself")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_NS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_ITSELF_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    client_name: str
    profile: str
    clock_id: str
    max_age_ns: int
    limits_itself: bool
    def __init__(self, wire_version: _Optional[int] = ..., client_name: _Optional[str] = ..., profile: _Optional[str] = ..., clock_id: _Optional[str] = ..., max_age_ns: _Optional[int] = ..., limits_itself: bool = ...) -> None: ...

class OpenReply(_message.Message):
    __slots__ = ("session_token", "lease_ns", "max_age_ns", "operator_limits_json")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_NS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_LIMITS_JSON_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    lease_ns: int
    max_age_ns: int
    operator_limits_json: str
    def __init__(self, session_token: _Optional[str] = ..., lease_ns: _Optional[int] = ..., max_age_ns: _Optional[int] = ..., operator_limits_json: _Optional[str] = ...) -> None: ...

class ResetRequest(_message.Message):
    __slots__ = ("session_token", "instruction", "release_stop", "view_scores")
    class ViewScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_STOP_FIELD_NUMBER: _ClassVar[int]
    VIEW_SCORES_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    instruction: str
    release_stop: bool
    view_scores: _containers.ScalarMap[str, float]
    def __init__(self, session_token: _Optional[str] = ..., instruction: _Optional[str] = ..., release_stop: bool = ..., view_scores: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ResetReply(_message.Message):
    __slots__ = ("unknown_words",)
    UNKNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
    unknown_words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, unknown_words: _Optional[_Iterable[str]] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("session_token", "sequence", "captured_monotonic_ns", "images", "proprio", "profile", "wants_telemetry", "executed", "clock")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROPRIO_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    WANTS_TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    sequence: int
    captured_monotonic_ns: int
    images: _containers.RepeatedCompositeFieldContainer[Image]
    proprio: Tensor
    profile: str
    wants_telemetry: bool
    executed: int
    clock: ClockReport
    def __init__(self, session_token: _Optional[str] = ..., sequence: _Optional[int] = ..., captured_monotonic_ns: _Optional[int] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., proprio: _Optional[_Union[Tensor, _Mapping]] = ..., profile: _Optional[str] = ..., wants_telemetry: bool = ..., executed: _Optional[int] = ..., clock: _Optional[_Union[ClockReport, _Mapping]] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("kept", "fate", "encoded_ages")
    KEPT_FIELD_NUMBER: _ClassVar[int]
    FATE_FIELD_NUMBER: _ClassVar[int]
    ENCODED_AGES_FIELD_NUMBER: _ClassVar[int]
    kept: Tensor
    fate: Tensor
    encoded_ages: Tensor
    def __init__(self, kept: _Optional[_Union[Tensor, _Mapping]] = ..., fate: _Optional[_Union[Tensor, _Mapping]] = ..., encoded_ages: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class ProfileChoice(_message.Message):
    __slots__ = ("profile", "reason", "is_switch", "predicted_ns", "deadline_ns", "ready_ns")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_SWITCH_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_NS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    READY_NS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    reason: str
    is_switch: bool
    predicted_ns: int
    deadline_ns: int
    ready_ns: int
    def __init__(self, profile: _Optional[str] = ..., reason: _Optional[str] = ..., is_switch: bool = ..., predicted_ns: _Optional[int] = ..., deadline_ns: _Optional[int] = ..., ready_ns: _Optional[int] = ...) -> None: ...

class ActionChunk(_message.Message):
    __slots__ = ("sequence", "actions", "profile", "clamped", "timings_ns", "captured_monotonic_ns", "telemetry", "far_proprio", "choice", "valid_from_monotonic_ns", "expires_monotonic_ns", "limited", "arrived_server_ns", "replied_server_ns")
    class TimingsNsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CLAMPED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_NS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    FAR_PROPRIO_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    LIMITED_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_SERVER_NS_FIELD_NUMBER: _ClassVar[int]
    REPLIED_SERVER_NS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    actions: Tensor
    profile: str
    clamped: int
    timings_ns: _containers.ScalarMap[str, int]
    captured_monotonic_ns: int
    telemetry: Telemetry
    far_proprio: _containers.RepeatedScalarFieldContainer[str]
    choice: ProfileChoice
    valid_from_monotonic_ns: int
    expires_monotonic_ns: int
    limited: _containers.RepeatedScalarFieldContainer[str]
    arrived_server_ns: int
    replied_server_ns: int
    def __init__(self, sequence: _Optional[int] = ..., actions: _Optional[_Union[Tensor, _Mapping]] = ..., profile: _Optional[str] = ..., clamped: _Optional[int] = ..., timings_ns: _Optional[_Mapping[str, int]] = ..., captured_monotonic_ns: _Optional[int] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ..., far_proprio: _Optional[_Iterable[str]] = ..., choice: _Optional[_Union[ProfileChoice, _Mapping]] = ..., valid_from_monotonic_ns: _Optional[int] = ..., expires_monotonic_ns: _Optional[int] = ..., limited: _Optional[_Iterable[str]] = ..., arrived_server_ns: _Optional[int] = ..., replied_server_ns: _Optional[int] = ...) -> None: ...

class StreamReply(_message.Message):
    __slots__ = ("chunk", "error")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    chunk: ActionChunk
    error: Error
    def __init__(self, chunk: _Optional[_Union[ActionChunk, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("text", "images", "profile", "max_new_tokens", "sampling")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    text: str
    images: _containers.RepeatedCompositeFieldContainer[Image]
    profile: str
    max_new_tokens: int
    sampling: Sampling
    def __init__(self, text: _Optional[str] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., profile: _Optional[str] = ..., max_new_tokens: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class AnswerPiece(_message.Message):
    __slots__ = ("token", "text", "is_last", "timings_ns")
    class TimingsNsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_NS_FIELD_NUMBER: _ClassVar[int]
    token: int
    text: str
    is_last: bool
    timings_ns: _containers.ScalarMap[str, int]
    def __init__(self, token: _Optional[int] = ..., text: _Optional[str] = ..., is_last: bool = ..., timings_ns: _Optional[_Mapping[str, int]] = ...) -> None: ...

class AttendRequest(_message.Message):
    __slots__ = ("session_token",)
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    def __init__(self, session_token: _Optional[str] = ...) -> None: ...

class AttendReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class StopReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseRequest(_message.Message):
    __slots__ = ("session_token",)
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    def __init__(self, session_token: _Optional[str] = ...) -> None: ...

class CloseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
