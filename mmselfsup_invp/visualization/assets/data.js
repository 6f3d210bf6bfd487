'use strict';
// The data of the map, from map_data() in image_map.py, and what is computed from it.
//
// names, index   file names relative to `folder`, and numbers in the data set
// position       x and y of each image, 0 to 65535
// features       int8, `dim` numbers for each image; times `scale` of the image
// neighbours     `degree` edges out of each image, -1 for none
// cluster, label group of each image; `label` is null without labels
// side, columns  pixels of a tile, and tiles in a row of the sheet of pictures

function readData() {
  const source = document.getElementById('map-data');
  if (!source) return null;
  const json = JSON.parse(source.textContent);
  const numbers = (name, Type) =>
    new Type(Uint8Array.from(atob(json[name]), (character) => character.charCodeAt(0)).buffer);
  const count = json.names.length;
  const features = numbers('features', Int8Array);
  return {
    ...json,
    count,
    features,
    dim: features.length / count,
    position: numbers('position', Uint16Array),
    scale: numbers('scale', Float32Array),
    neighbours: numbers('neighbours', Int16Array),
  };
}

const data = readData();

function pathOf(image) {
  const name = data.names[image];
  return data.folder && !name.startsWith('/') ? `${data.folder}/${name}` : name;
}

function groupName(kind, group) {
  return kind === 'label' ? data.classes[group] : `cluster ${group + 1}`;
}

function details(image) {
  const label = data.label ? `, class ${groupName('label', data.label[image])}` : '';
  return `image ${data.index[image]}${label}, ${groupName('cluster', data.cluster[image])}`;
}

function describe(image) {
  return `${data.names[image]} (${details(image)})`;
}

function sameClass(image, other) {
  return data.label ? data.label[image] === data.label[other] : null;
}

function similarity(image, other) {
  const { dim, features, scale } = data;
  let sum = 0;
  for (let i = image * dim, j = other * dim, end = i + dim; i < end; i++, j++) {
    sum += features[i] * features[j];
  }
  return sum * scale[image] * scale[other];
}

function neighboursOf(image) {
  const edges = data.neighbours.subarray(image * data.degree, (image + 1) * data.degree);
  return [...edges].filter((other) => other >= 0);
}

// The images first reached after 1, 2, ... hops, each with the image it was reached from.
function walkFrom(anchor, hops) {
  const seen = new Set([anchor]);
  const found = [];
  let frontier = [anchor];
  for (let hop = 1; hop <= hops; hop++) {
    const reached = [];
    for (const parent of frontier) {
      for (const image of neighboursOf(parent)) {
        if (seen.has(image)) continue;
        seen.add(image);
        reached.push({ image, parent, hop, similarity: similarity(anchor, image) });
      }
    }
    frontier = reached.map((step) => step.image);
    found.push(reached.sort((a, b) => b.similarity - a.similarity));
  }
  return found;
}

function nearest(anchor, count) {
  return Array.from({ length: data.count }, (_, image) => image)
    .filter((image) => image !== anchor)
    .map((image) => ({ image, similarity: similarity(anchor, image) }))
    .sort((a, b) => b.similarity - a.similarity)
    .slice(0, count);
}

// Images of each group, the largest group first.
function groupsOf(kind) {
  const groups = new Map();
  data[kind].forEach((group, image) => {
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(image);
  });
  return [...groups].sort((a, b) => b[1].length - a[1].length);
}
