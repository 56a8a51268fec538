// Reads model files with netron's own readers, without its window: node netron_read.mjs NETRON FILE...
//
// NETRON is the folder of netron's JavaScript (the Python package). Prints one JSON object a file:
// {format, graphs: [{name, inputs, outputs, nodes, weights}]}, or {error} where netron refuses the file.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { register } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, ...files] = process.argv.slice(2);
const root = pathToFileURL(path.resolve(folder) + path.sep).href;

// The package has no package.json, so node would take its files for CommonJS: say that they are modules.
const hook = `
import { readFile } from 'node:fs/promises';
let root = '';
export const initialize = (data) => { root = data; };
export const load = async (url, context, next) => url.startsWith(root) && url.endsWith('.js')
    ? { format: 'module', shortCircuit: true, source: await readFile(new URL(url), 'utf8') }
    : next(url, context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`, { data: root });
const view = await import(`${root}view.js`);
const node = await import(`${root}node.js`);

const stream = (file) => {
    const { size, mtimeMs } = fs.statSync(file);
    return new node.FileStream(file, 0, size, mtimeMs);
};
const problems = [];
const host = {
    environment: () => null,
    event: () => undefined,
    update: () => undefined,
    exception: (error) => problems.push(error.message || String(error)),
    require: (id) => import(`${root}${id.replace(/^\.\//, '')}.js`),
    request: (file, encoding) => encoding
        ? fs.promises.readFile(path.join(folder, file), encoding)
        : stream(path.join(folder, file))
};
host.asset = (file) => host.request(file, 'utf8');

// What netron asks of an opened file.
const opened = (file) => ({
    identifier: path.basename(file),
    stream: stream(file),
    entries: new Map(),
    name: '',
    request: async (name, encoding, base) => {
        const other = path.join(path.dirname(file), base || '', name);
        return encoding ? fs.promises.readFile(other, encoding) : stream(other);
    },
    fetch(name, encoding, base) { return this.request(name, encoding, base); },
    require: host.require,
    asset: host.asset,
    error: host.exception
});

const plain = (v) => {
    if (typeof v === 'bigint') {
        return Number.isSafeInteger(Number(v)) ? Number(v) : String(v);
    }
    if (Array.isArray(v) || ArrayBuffer.isView(v)) {
        return Array.from(v, plain);
    }
    if (v && typeof v === 'object') {
        if (v.type && v.type.dataType) {
            return typed(v.type);
        }
        if (v.toNumber) {
            return v.toNumber();
        }
        return v.name === undefined ? String(v.constructor.name) : String(v.name);
    }
    return typeof v === 'number' && !Number.isFinite(v) ? String(v) : v;
};
const typed = (t) => ({
    dtype: t ? String(t.dataType || t) : '',
    shape: t && t.shape && t.shape.dimensions ? plain(t.shape.dimensions) : []
});
const bytes = (tensor) => {
    const v = tensor.values;
    const data = v && v.peek ? v.peek() : v;
    if (data === null || data === undefined) {
        return Buffer.alloc(0);
    }
    return ArrayBuffer.isView(data)
        ? Buffer.from(data.buffer, data.byteOffset, data.byteLength)
        : Buffer.from(JSON.stringify(plain(data)));
};
const values = (argument) => [argument.value].flat().filter((v) => v && typeof v === 'object' && 'name' in v);
const operands = (list) => (list || []).map((a) => ({ name: a.name, values: values(a).map((v) => v.name) }));
const edge = (list) => (list || []).flatMap((a) => values(a).map((v) => ({ name: v.name, ...typed(v.type) })));

const described = (graph) => {
    const weights = new Map();
    const types = {};
    const nodes = [];
    const walk = (list) => {
        for (const n of list || []) {
            for (const v of [...n.inputs || [], ...n.outputs || []].flatMap(values)) {
                if (v.type) {
                    types[v.name] = typed(v.type);
                }
                const t = v.initializer;
                if (t && !weights.has(v.name)) {
                    const sha256 = createHash('sha256').update(bytes(t)).digest('hex');
                    weights.set(v.name, { name: v.name, ...typed(t.type || v.type), sha256 });
                }
            }
            nodes.push({
                type: n.type ? n.type.name : '',
                name: n.name || '',
                inputs: operands(n.inputs),
                outputs: operands(n.outputs),
                attributes: Object.fromEntries((n.attributes || []).map((a) => [a.name, plain(a.value)]))
            });
            for (const block of n.blocks || []) {
                walk(block.value && block.value.nodes);
            }
        }
    };
    walk(graph.nodes);
    return {
        name: graph.name || '', inputs: edge(graph.inputs), outputs: edge(graph.outputs),
        nodes, types, weights: [...weights.values()]
    };
};

const service = new view.ModelFactoryService(host);
for (const file of files) {
    problems.length = 0;
    let found = null;
    try {
        const model = await service.open(opened(path.resolve(file)));
        found = { format: model.format, graphs: model.modules.map(described) };
        if (problems.length > 0) {
            found.error = problems.join('; ');
        }
    } catch (error) {
        found = { error: error.message || String(error) };
    }
    console.log(JSON.stringify(found));
}
