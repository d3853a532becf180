// Runs one TensorFlow.js graph model on the CPU: `node run.js FOLDER MODEL`, where FOLDER has node_modules.
//
// stdin brings questions, stdout takes the answers, one frame each: the length of a header (uint32, little
// endian), the header in JSON, then the bytes of its tensors one after the other. A header has
// `tensors: [{name, dtype, shape, bytes}]`, or `error`. The first answer comes unasked, when the model is
// loaded: the `inputs`, a dtype by name, and the `version`. The process ends with its stdin.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const ARRAYS = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };
const [folder, directory] = process.argv.slice(2);
const installed = createRequire(path.join(folder, "package.json"));

console.log = console.error; // stdout is for frames

async function* frames(stream) {
  let held = Buffer.alloc(0);
  const chunks = stream[Symbol.asyncIterator]();
  const take = async (size) => {
    const parts = [held];
    for (let there = held.length; there < size; ) {
      const { done, value } = await chunks.next();
      if (done) return null;
      parts.push(value);
      there += value.length;
    }
    const all = parts.length > 1 ? Buffer.concat(parts) : held;
    held = all.subarray(size);
    return all.subarray(0, size);
  };
  for (;;) {
    const length = await take(4);
    if (length === null) return;
    const header = JSON.parse(await take(length.readUInt32LE()));
    for (const tensor of header.tensors) {
      tensor.content = await take(tensor.bytes);
    }
    yield header;
  }
}

function write(header, contents = []) {
  const encoded = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(encoded.length);
  for (const part of [length, encoded, ...contents]) process.stdout.write(part);
}

async function load(tf, { loadGraphModel }) {
  const read = async (manifest) => {
    const shards = manifest.flatMap((group) => group.paths).map((file) => fs.readFileSync(path.join(directory, file)));
    return [manifest.flatMap((group) => group.weights), new Uint8Array(Buffer.concat(shards)).buffer];
  };
  const document = JSON.parse(fs.readFileSync(path.join(directory, "model.json")));
  return loadGraphModel({ load: () => tf.io.getModelArtifactsForJSON(document, read) });
}

async function main() {
  const tf = installed("@tensorflow/tfjs-core");
  installed("@tensorflow/tfjs-backend-cpu");
  const converter = installed("@tensorflow/tfjs-converter");
  await tf.setBackend("cpu");
  const model = await load(tf, converter);
  const { inputs, outputs } = model.modelSignature;
  const names = Object.keys(outputs);
  const dtypes = Object.fromEntries(model.inputs.map(({ name, dtype }) => [name, dtype]));
  const described = Object.entries(inputs)
    .filter(([, tensor]) => tensor.resourceId === undefined) // a lookup table is no input of the caller's
    .map(([name, tensor]) => [name, dtypes[tensor.name.split(":")[0]]]);
  write({
    tensors: [],
    inputs: Object.fromEntries(described),
    version: `${tf.version_core} on node ${process.versions.node}`,
  });

  // `execute` refuses loops, branches and shapes that values decide before it computes anything.
  let dynamic = false;
  const execute = async (tensors) => {
    try {
      if (!dynamic) return model.execute(tensors, names);
    } catch (error) {
      if (!error.message.includes("executeAsync")) throw error;
      dynamic = true;
    }
    return model.executeAsync(tensors, names);
  };

  const answer = async ({ tensors }) => {
    const read = ({ dtype, shape, content }) =>
      tf.tensor(new ARRAYS[dtype](new Uint8Array(content).buffer), shape, dtype);
    const given = Object.fromEntries(tensors.map((tensor) => [tensor.name, read(tensor)]));
    const found = [await execute(given)].flat();
    const values = found.map((tensor) => tensor.dataSync());
    const described = found.map(({ dtype, shape }, index) => {
      if (!(dtype in ARRAYS)) throw new Error(`output ${names[index]} is ${dtype}`);
      return { name: names[index], dtype, shape, bytes: values[index].byteLength };
    });
    tf.dispose([given, found]);
    write({ tensors: described }, values.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)));
  };

  for await (const question of frames(process.stdin)) {
    await answer(question).catch((error) => write({ tensors: [], error: error.message }));
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
