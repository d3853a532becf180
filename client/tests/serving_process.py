"""A server of TensorFlow Serving's gRPC services through its own published protos; prints its port.

Models: `echo` gives each input back as an output of the same name and dtype (version 2, also behind the label
`stable`), as `*_val` fields, or as tensor_content where the signature is named `content-...`; `slow` answers
after two seconds; `moving` publishes version 2 with another dtype after its first prediction; `broken` can't
be loaded; `late` becomes AVAILABLE at the third question; `digits` echoes pictures and `customers` columns,
for the README.
"""

# ruff: noqa: N802 - gRPC names a servicer's methods as the service does

import os
import sys
import time
from concurrent import futures

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

DTYPES = {
    "float32": types_pb2.DT_FLOAT,
    "float64": types_pb2.DT_DOUBLE,
    "float16": types_pb2.DT_HALF,
    "bfloat16": types_pb2.DT_BFLOAT16,
    "int8": types_pb2.DT_INT8,
    "int16": types_pb2.DT_INT16,
    "int32": types_pb2.DT_INT32,
    "int64": types_pb2.DT_INT64,
    "uint8": types_pb2.DT_UINT8,
    "uint16": types_pb2.DT_UINT16,
    "uint32": types_pb2.DT_UINT32,
    "uint64": types_pb2.DT_UINT64,
    "bool": types_pb2.DT_BOOL,
    "complex64": types_pb2.DT_COMPLEX64,
    "complex128": types_pb2.DT_COMPLEX128,
    "string": types_pb2.DT_STRING,
}


def info(dtype, *shape):
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    return meta_graph_pb2.TensorInfo(
        name="x:0", dtype=dtype, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims)
    )


def signature(inputs, outputs=None):
    return meta_graph_pb2.SignatureDef(
        inputs=inputs, outputs=outputs or inputs, method_name="tensorflow/serving/predict"
    )


class Service(
    prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer
):
    def __init__(self):
        self.moved = False
        self.questions = 0

    def signatures(self, name):
        if name == "moving":
            dtype = types_pb2.DT_STRING if self.moved else types_pb2.DT_FLOAT
            return {"serving_default": signature({"x": info(dtype, -1)})}
        if name == "digits":
            return {"serving_default": signature({"image": info(types_pb2.DT_FLOAT, -1, 8, 8, 1)})}
        if name == "customers":
            customer = {"age": info(types_pb2.DT_FLOAT, -1), "city": info(types_pb2.DT_STRING, -1)}
            return {"serving_default": signature(customer)}
        features = {"features": info(types_pb2.DT_FLOAT, -1, 3)}
        two = {"a": info(types_pb2.DT_FLOAT, -1), "b": info(types_pb2.DT_INT64, -1)}
        raw = {
            "age": info(types_pb2.DT_FLOAT, -1),
            "city": info(types_pb2.DT_STRING, -1, 1),
            "rooms": info(types_pb2.DT_INT64, -1),
        }
        every = {
            dtype: signature(
                {"x": meta_graph_pb2.TensorInfo(dtype=number, tensor_shape={"unknown_rank": True})}
            )
            for dtype, number in DTYPES.items()
        }
        content = {f"content-{dtype}": each for dtype, each in every.items()}
        return {
            "serving_default": signature(features, {"output_0": info(types_pb2.DT_FLOAT, -1, 3)}),
            "two": signature(two),
            "raw": signature(raw),
            "__saved_model_init_op": signature({}, {"__saved_model_init_op": info(types_pb2.DT_INVALID)}),
            **every,
            **content,
        }

    def Predict(self, request, context):
        name = request.model_spec.name
        self.check(request.model_spec, context)
        if name == "slow":
            time.sleep(2)
        wanted = self.signatures(name)[request.model_spec.signature_name]
        reply = predict_pb2.PredictResponse(model_spec=request.model_spec)
        reply.model_spec.version.value = 2 if name != "moving" or self.moved else 1
        for key, tensor in request.inputs.items():
            if tensor.dtype != wanted.inputs[key].dtype:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong dtype")
            value = tf.make_ndarray(tensor)  # proves that TensorFlow reads what was sent
            out = "output_0" if key == "features" else key
            if request.model_spec.signature_name.startswith("content-") or value.dtype == object:
                reply.outputs[out].CopyFrom(
                    tf.make_tensor_proto(value, dtype=tensor.dtype, shape=value.shape)
                )
            else:
                reply.outputs[out].CopyFrom(dense(value, tensor.dtype))
        for key in list(reply.outputs):
            if request.output_filter and key not in request.output_filter:
                del reply.outputs[key]
        self.moved = self.moved or name == "moving"
        return reply

    def GetModelMetadata(self, request, context):
        self.check(request.model_spec, context)
        reply = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        moved = request.model_spec.name != "moving" or self.moved
        reply.model_spec.version.value = 2 if moved else 1
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=self.signatures(request.model_spec.name))
        reply.metadata["signature_def"].Pack(found)
        return reply

    def GetModelStatus(self, request, context):
        name, state = request.model_spec.name, get_model_status_pb2.ModelVersionStatus
        self.check(request.model_spec, context)
        reply = get_model_status_pb2.GetModelStatusResponse()
        if name == "broken":
            each = reply.model_version_status.add(version=1, state=state.END)
            each.status.error_code, each.status.error_message = 3, "no saved_model.pb"
        elif name == "late":
            self.questions += 1
            reply.model_version_status.add(
                version=1, state=state.AVAILABLE if self.questions > 2 else state.LOADING
            )
        else:
            reply.model_version_status.add(version=1, state=state.END)
            reply.model_version_status.add(version=2, state=state.AVAILABLE)
        return reply

    def check(self, spec, context):
        if spec.name not in {"echo", "slow", "moving", "broken", "late", "digits", "customers"}:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        if spec.HasField("version_label") and spec.version_label != "stable":
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}"
            )


def dense(value, dtype):
    """The tensor by its *_val field, as TensorFlow Serving answers by default."""
    full = tf.make_tensor_proto(value, dtype=dtype, shape=value.shape)
    full.ClearField("tensor_content")
    flat = value.ravel()
    if value.dtype.name in {"float16", "bfloat16"}:
        full.half_val[:] = flat.view("<u2").astype("<i4").tolist()
    elif value.dtype.kind == "c":
        parts = flat.view(flat.real.dtype).tolist()
        getattr(full, "scomplex_val" if value.dtype.itemsize == 8 else "dcomplex_val")[:] = parts
    else:
        by_name = {"float32": "float", "float64": "double", "bool": "bool", "int64": "int64"}
        by_name |= {"uint32": "uint32", "uint64": "uint64"}
        getattr(full, by_name.get(value.dtype.name, "int") + "_val")[:] = flat.tolist()
    return full


def main():
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    service = Service()
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201 - how the test learns it
    sys.stdin.read()  # until the test ends
    server.stop(None).wait()


if __name__ == "__main__":
    main()
