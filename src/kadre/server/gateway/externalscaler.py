"""The messages by which KEDA asks whether an object is to be scaled up: its `externalscaler.proto`.

Of each message the fields that are read or said here; what else KEDA sends is passed over, as protobuf has it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "externalscaler.ExternalScaler"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {"string": _FIELD.TYPE_STRING, "int64": _FIELD.TYPE_INT64, "bool": _FIELD.TYPE_BOOL}
_MESSAGES = {
    "ScaledObjectRef": ("name: string", "namespace: string"),
    "IsActiveResponse": ("result: bool",),
    "MetricSpec": ("metricName: string", "targetSize: int64"),
    "GetMetricSpecResponse": ("metricSpecs: many MetricSpec",),
    "GetMetricsRequest": ("scaledObjectRef: ScaledObjectRef", "metricName: string"),
    "MetricValue": ("metricName: string", "metricValue: int64"),
    "GetMetricsResponse": ("metricValues: many MetricValue",),
}
"""Each field in its place: the first is number 1."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package="externalscaler", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, start=1):
            called, _, kind = field.partition(": ")
            many, kind = kind.startswith("many "), kind.removeprefix("many ")
            made = message.field.add(name=called, number=number)
            made.label = _FIELD.LABEL_REPEATED if many else _FIELD.LABEL_OPTIONAL
            if kind in _TYPES:
                made.type = _TYPES[kind]
            else:
                made.type, made.type_name = _FIELD.TYPE_MESSAGE, f".externalscaler.{kind}"
    return file


# In a pool of our own: a process may have another's descriptions of the same names.
_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"externalscaler.{name}"))


ScaledObjectRef = _message("ScaledObjectRef")
IsActive = _message("IsActiveResponse")
MetricSpec = _message("MetricSpec")
MetricSpecs = _message("GetMetricSpecResponse")
MetricsRequest = _message("GetMetricsRequest")
MetricValue = _message("MetricValue")
Metrics = _message("GetMetricsResponse")
