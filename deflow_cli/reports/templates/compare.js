/* Two versions of an image, one above the other: the first is cut off at a slider. */
(function () {
  "use strict";

  var data = JSON.parse(document.getElementById("pairs").textContent);
  var number = 0, share = 0.5, view = "split";

  function element(id) { return document.getElementById(id); }

  /* The pair that is shown; of larger pictures the pixels are kept whole, of smaller ones they are squares. */
  function show(next) {
    number = (next + data.pairs.length) % data.pairs.length;
    var pair = data.pairs[number];
    element("image").selectedIndex = number;
    element("count").textContent = number + 1 + " of " + data.pairs.length;
    ["first", "second"].forEach(function (side, place) {
      element(side).src = pair[side];
      element(side).alt = data.labels[place] + ": " + pair.name;
    });
    var sizes = pair.sizes.map(function (size) { return size[0] + "\u00d7" + size[1]; });
    element("sizes").textContent = pair.name + ", " + (sizes[0] === sizes[1] ? sizes[0]
      : data.labels[0] + " " + sizes[0] + ", " + data.labels[1] + " " + sizes[1] + ", enlarged to one size");
    draw();
  }

  function draw() {
    var pair = data.pairs[number];
    var width = Math.max(pair.sizes[0][0], pair.sizes[1][0]), height = Math.max(pair.sizes[0][1], pair.sizes[1][1]);
    var zoom = element("zoom").value, ratio = window.devicePixelRatio || 1;
    var frame = element("frame"), room = frame.clientWidth;
    var tall = Math.max(240, window.innerHeight - frame.getBoundingClientRect().top - window.scrollY - 40);
    var scale = zoom === "fit" ? Math.min(room / width, tall / height) : Number(zoom) / ratio;
    element("canvas").style.width = width * scale + "px";
    element("canvas").style.height = height * scale + "px";
    ["first", "second"].forEach(function (side, place) {
      element(side).classList.toggle("pixelated", width / pair.sizes[place][0] * scale * ratio >= 1);
    });
    var shown = view === "a" ? 1 : view === "b" ? 0 : share;
    element("second").style.clipPath = "inset(0 0 0 " + 100 * shown + "%)";
    element("handle").style.left = 100 * share + "%";
    element("handle").hidden = view !== "split";
    element("handle").setAttribute("aria-valuenow", Math.round(100 * share));
    document.querySelector("#canvas .left").hidden = view === "b";
    document.querySelector("#canvas .right").hidden = view === "a";
    document.querySelectorAll("[data-view]").forEach(function (button) {
      button.setAttribute("aria-pressed", button.dataset.view === view ? "true" : "false");
    });
  }

  function see(next) { view = next; draw(); }

  function slide(next) { share = Math.min(1, Math.max(0, next)); see("split"); }

  function follow(event) {
    var box = element("canvas").getBoundingClientRect();
    slide((event.clientX - box.left) / box.width);
  }

  var handle = element("handle"), held = false;
  handle.addEventListener("pointerdown", function (event) {
    if (event.button > 0) return;
    held = true;
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  handle.addEventListener("pointermove", function (event) { if (held) follow(event); });
  ["pointerup", "pointercancel", "lostpointercapture"].forEach(function (name) {
    handle.addEventListener(name, function () { held = false; });
  });
  /* A touch that stays where it is moves the slider there; browsers give no click where two follow each other. */
  var touched = null;
  element("canvas").addEventListener("pointerdown", function (event) {
    touched = event.button > 0 || handle.contains(event.target) ? null : event;
  });
  element("canvas").addEventListener("pointerup", function (event) {
    if (touched && Math.hypot(event.clientX - touched.clientX, event.clientY - touched.clientY) < 8) follow(event);
    touched = null;
  });
  element("canvas").addEventListener("pointercancel", function () { touched = null; });
  element("first").draggable = element("second").draggable = false;

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|INPUT)$/.test(event.target.tagName)) return;
    var step = event.shiftKey ? 0.1 : 0.01;
    var actions = {
      ArrowLeft: function () { slide(share - step); }, ArrowRight: function () { slide(share + step); },
      Home: function () { slide(0); }, End: function () { slide(1); },
      a: function () { see("a"); }, b: function () { see("b"); }, s: function () { see("split"); },
      n: function () { show(number + 1); }, p: function () { show(number - 1); }
    };
    var action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (/^(Home|End|Arrow)/.test(event.key) && event.target !== handle && event.target !== document.body)) return;
    event.preventDefault();
    action();
  });
  document.querySelectorAll("[data-view]").forEach(function (button) {
    button.addEventListener("click", function () { see(button.dataset.view); });
  });
  element("before").addEventListener("click", function () { show(number - 1); });
  element("after").addEventListener("click", function () { show(number + 1); });
  element("image").addEventListener("change", function (event) { show(event.target.selectedIndex); });
  element("zoom").addEventListener("change", draw);
  window.addEventListener("resize", draw);
  document.querySelector('[aria-label="Image"]').hidden = data.pairs.length < 2;
  element("compare").hidden = false;
  show(0);
})();
