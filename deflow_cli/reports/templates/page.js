/* Sorting of tables, the common view of compared pictures, sliders over samples. The page is complete without. */
(function () {
  "use strict";

  function sortable(table) {
    var body = table.tBodies[0];
    var heads = Array.from(table.tHead.rows[0].cells);
    function compare(column, sign) {
      return function (a, b) {
        var x = a.cells[column], y = b.cells[column];
        var empty = (x.className === "number" && !x.dataset.v) - (y.className === "number" && !y.dataset.v);
        if (empty) return empty;
        if (x.dataset.v && y.dataset.v) {
          var u = number(x.dataset.v), v = number(y.dataset.v);
          return u === v ? 0 : sign * (u < v ? -1 : 1);
        }
        return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
      };
    }
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.from(body.rows).sort(compare(column, up ? 1 : -1)).forEach(function (row) { body.appendChild(row); });
      });
    });
  }

  function number(text) {
    return text === "inf" ? Infinity : text === "-inf" ? -Infinity : parseFloat(text);
  }

  function comparison(figure) {
    var panes = Array.from(figure.querySelectorAll(".pane"));
    var images = panes.map(function (pane) { return pane.querySelector("img"); });
    var natural = Number(figure.dataset.width);
    var zoom = 1, left = 0, top = 0;
    var fingers = new Map();
    var shown = document.createElement("output");

    function width() { return panes[0].clientWidth || 1; }
    function height() { return panes[0].clientHeight || 1; }
    function most() { return Math.max(8, 16 * natural / width()); }

    /* The view is a point (left, top), in shares of the picture, at the pane's corner, and a zoom. */
    function draw() {
      zoom = Math.min(most(), Math.max(1, zoom));
      left = Math.min(1 - 1 / zoom, Math.max(0, left));
      top = Math.min(1 - 1 / zoom, Math.max(0, top));
      var real = zoom * width() / natural;
      images.forEach(function (image) {
        image.style.transform = "translate(" + -left * zoom * width() + "px," + -top * zoom * height() + "px) scale(" + zoom + ")";
        image.style.imageRendering = real >= 2 ? "pixelated" : "auto";
      });
      figure.classList.toggle("zoomed", zoom > 1.001);
      shown.textContent = Math.round(real * 100) + " %";
    }

    /* Zoom about a point of the pane, in shares of it: what lies there stays there. */
    function zoomTo(wanted, x, y) {
      var next = Math.min(most(), Math.max(1, wanted));
      left += x / zoom - x / next;
      top += y / zoom - y / next;
      zoom = next;
      draw();
    }

    function move(dx, dy) { left += dx / zoom; top += dy / zoom; draw(); }
    function reset() { zoom = 1; left = 0; top = 0; draw(); }
    function actual() { zoomTo(natural / width(), 0.5, 0.5); }

    function place(pane, event) {
      var box = pane.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    }

    function spread(points) {
      var dx = points[0][0] - points[1][0], dy = (points[0][1] - points[1][1]) * height() / width();
      return Math.sqrt(dx * dx + dy * dy);
    }

    panes.forEach(function (pane, index) {
      pane.tabIndex = 0;
      pane.setAttribute("role", "group");
      pane.setAttribute("aria-label", images[index].alt + ". Plus and minus zoom, arrows move, 0 shows all.");
      images[index].draggable = false;
      pane.addEventListener("wheel", function (event) {
        /* A page that scrolls must not be caught: the wheel zooms a picture that was clicked, or with Ctrl. */
        if (!(event.ctrlKey || event.metaKey || document.activeElement === pane)) return;
        if (event.deltaY > 0 && zoom <= 1.001) return;
        event.preventDefault();
        var at = place(pane, event);
        zoomTo(zoom * Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.002)), at[0], at[1]);
      }, { passive: false });
      pane.addEventListener("pointerdown", function (event) {
        if (event.button > 0) return;
        fingers.set(event.pointerId, place(pane, event));
        if (pane.setPointerCapture) pane.setPointerCapture(event.pointerId);
        if (event.pointerType === "mouse") pane.focus({ preventScroll: true });
      });
      pane.addEventListener("pointermove", function (event) {
        var before = fingers.get(event.pointerId);
        if (!before) return;
        var now = place(pane, event);
        if (fingers.size === 2) {
          var old = Array.from(fingers.values());
          fingers.set(event.pointerId, now);
          var fresh = Array.from(fingers.values());
          var x = (fresh[0][0] + fresh[1][0]) / 2, y = (fresh[0][1] + fresh[1][1]) / 2;
          left -= (x - (old[0][0] + old[1][0]) / 2) / zoom;
          top -= (y - (old[0][1] + old[1][1]) / 2) / zoom;
          zoomTo(zoom * spread(fresh) / Math.max(spread(old), 1e-3), x, y);
        } else if (fingers.size === 1 && zoom > 1.001) {
          move(before[0] - now[0], before[1] - now[1]);
          fingers.set(event.pointerId, now);
        }
      });
      ["pointerup", "pointercancel", "lostpointercapture"].forEach(function (name) {
        pane.addEventListener(name, function (event) { fingers.delete(event.pointerId); });
      });
      /* One finger scrolls the page until the picture is zoomed; two always belong to the picture. */
      ["touchstart", "touchmove"].forEach(function (name) {
        pane.addEventListener(name, function (event) {
          if (event.cancelable && event.touches.length > 1) event.preventDefault();
        }, { passive: false });
      });
      pane.addEventListener("dblclick", function (event) {
        var at = place(pane, event);
        if (zoom > 1.001) reset(); else zoomTo(4, at[0], at[1]);
      });
      pane.addEventListener("keydown", function (event) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        var step = 0.15;
        var actions = {
          "+": function () { zoomTo(zoom * 1.5, 0.5, 0.5); }, "=": function () { zoomTo(zoom * 1.5, 0.5, 0.5); },
          "-": function () { zoomTo(zoom / 1.5, 0.5, 0.5); }, "0": reset, "1": actual, "Escape": reset,
          "ArrowLeft": function () { move(-step, 0); }, "ArrowRight": function () { move(step, 0); },
          "ArrowUp": function () { move(0, -step); }, "ArrowDown": function () { move(0, step); }
        };
        var action = actions[event.key];
        if (!action || (event.key.indexOf("Arrow") === 0 && zoom <= 1.001)) return;
        event.preventDefault();
        action();
      });
    });

    var tools = document.createElement("div");
    tools.className = "tools";
    function button(label, name, action) {
      var made = document.createElement("button");
      made.type = "button";
      made.textContent = label;
      made.title = name;
      made.setAttribute("aria-label", name);
      made.addEventListener("click", action);
      tools.appendChild(made);
    }
    button("\u2212", "Zoom out", function () { zoomTo(zoom / 1.5, 0.5, 0.5); });
    button("+", "Zoom in", function () { zoomTo(zoom * 1.5, 0.5, 0.5); });
    button("1:1", "One picture pixel per screen pixel", actual);
    button("All", "Show the whole picture", reset);
    tools.appendChild(shown);
    var hint = document.createElement("span");
    hint.textContent = window.matchMedia("(hover: none)").matches
      ? "Pinch to zoom, drag to move." : "Click a picture, then zoom with the wheel; drag to move.";
    tools.appendChild(hint);
    figure.insertBefore(tools, figure.firstChild);
    figure.classList.add("live");
    window.addEventListener("resize", draw);
    draw();
  }

  /* Of the samples of an image one is shown, chosen by a slider for the group and one for the step in it. */
  function sliders(figure) {
    var samples = Array.from(figure.querySelectorAll(".sample"));
    if (samples.length < 2) return;
    var groups = [];
    samples.forEach(function (sample) {
      if (groups.indexOf(sample.dataset.group) < 0) groups.push(sample.dataset.group);
    });
    var box = document.createElement("div");
    box.className = "sliders";
    function slider(name) {
      var label = document.createElement("label"), title = document.createElement("span");
      var input = document.createElement("input"), shown = document.createElement("output");
      title.textContent = name;
      input.type = "range";
      input.min = 0;
      input.step = 1;
      input.addEventListener("input", draw);
      [title, input, shown].forEach(function (part) { label.appendChild(part); });
      box.appendChild(label);
      return {
        input: input,
        say: function (text, count) {
          input.max = count - 1;
          label.hidden = count < 2;
          shown.textContent = text;
          input.setAttribute("aria-valuetext", text);
        }
      };
    }
    var group = slider("Temperature"), step = slider("Sample");
    function draw() {
      var chosen = groups[Number(group.input.value)];
      var steps = samples.filter(function (sample) { return sample.dataset.group === chosen; });
      var place = Math.min(Number(step.input.value), steps.length - 1);
      samples.forEach(function (sample) { sample.hidden = sample !== steps[place]; });
      group.say(chosen, groups.length);
      step.say(steps[place].dataset.step, steps.length);
    }
    group.input.max = groups.length - 1;
    group.input.value = groups.length - 1;
    step.input.value = 0;
    figure.insertBefore(box, figure.firstChild);
    draw();
  }

  document.querySelectorAll("table").forEach(sortable);
  document.querySelectorAll("figure.space").forEach(sliders);
  document.querySelectorAll(".compare").forEach(comparison);
})();
