/* A study's page: sets of pictures in the order of a form, answers in localStorage after each, a file at the end. */
(function () {
  "use strict";

  var study = JSON.parse(document.getElementById("study").textContent);
  var store = "deflow-study-" + study.study;
  var gap = 8, frame = 6;
  var answers, form, chosen = [], shown = [], ready = {}, ticking = 0, spent = 0, perPixel = 1;

  function element(id) { return document.getElementById(id); }

  function token() {
    var bytes = new Uint8Array(8);
    crypto.getRandomValues(bytes);
    return Array.from(bytes, function (byte) { return ("0" + byte.toString(16)).slice(-2); }).join("");
  }

  /* The form that a participant gets is drawn by the random number that stands for them. */
  function anew() {
    var participant = token();
    return {
      format: "deflow-study-answers", version: 1, study: study.study, participant: participant,
      form: parseInt(participant.slice(0, 12), 16) % study.forms.length, consent: false, answers: []
    };
  }

  function remember() {
    try {
      localStorage.setItem(store, JSON.stringify(answers));
    } catch (error) {
      element("forgetful").hidden = false;
    }
  }

  function recall() {
    try {
      var found = JSON.parse(localStorage.getItem(store));
      return found && found.study === study.study && Array.isArray(found.answers) ? found : null;
    } catch (error) {
      return null;
    }
  }

  function show(id) {
    ["intro", "trial", "done"].forEach(function (name) { element(name).hidden = name !== id; });
    window.scrollTo(0, 0);
    if (id !== "intro") element(id).focus({ preventScroll: true });
  }

  /* Seconds that the pictures were in view: the clock stands while the page is hidden. */
  function startClock() { spent = 0; ticking = document.hidden ? 0 : performance.now(); }
  function clock() { return spent + (ticking ? performance.now() - ticking : 0); }
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) { spent = clock(); ticking = 0; } else { ticking = performance.now(); }
  });

  function load(index) {
    if (index >= form.order.length) return Promise.resolve(null);
    if (!ready[index]) {
      var trial = study.trials[form.order[index]];
      var images = [trial.reference].concat(trial.candidates).map(function (name) {
        var image = new Image();
        image.src = study.images[name];
        image.className = "exact";
        image.draggable = false;
        return image.decode().then(function () { return image; });
      });
      ready[index] = Promise.all(images);
    }
    return ready[index];
  }

  /* Every pixel of a picture is a square of whole screen pixels: at the zoom that was asked for, or as large as
     leaves two pictures side by side. */
  function fit() {
    var ratio = window.devicePixelRatio || 1;
    var stage = element("candidates").parentNode, style = getComputedStyle(stage);
    var inner = stage.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    var beside = style.display === "flex" ? parseFloat(style.columnGap) : 0;
    var side, room, columns;
    perPixel = Math.max(1, Math.round(study.zoom * ratio));
    for (; ; perPixel -= 1) {
      side = study.crop * perPixel / ratio;
      room = inner - (beside ? side + beside : 0);
      columns = Math.floor((room + gap) / (side + frame + gap));
      if (columns >= 2 || perPixel === 1) break;
    }
    document.querySelectorAll(".exact").forEach(function (image) {
      image.style.width = image.style.height = side + "px";
    });
    columns = Math.max(1, Math.min(shown.length, columns));
    if (shown.length > columns) columns = Math.ceil(shown.length / Math.ceil(shown.length / columns));
    element("candidates").style.gridTemplateColumns = "repeat(" + columns + ", " + (side + frame) + "px)";
    align(ratio);
    var whole = Math.abs(ratio - 1) < 1e-3;
    element("scaling").hidden = whole;
    element("scaling").textContent = whole ? "" : "This screen or the browser's zoom enlarges pages by " +
      Math.round(ratio * 100) / 100 + ". Pictures are drawn sharp all the same, but in another size than on other" +
      " screens." + (window.matchMedia("(hover: none)").matches ? ""
        : " On a computer, please set the browser's zoom to 100 % (Ctrl and 0).");
    element("scaled").textContent = whole ? "" : "Screen scale " + Math.round(ratio * 100) / 100 + ": " + perPixel +
      " screen pixels for each pixel of a picture.";
  }

  /* Texts have heights of broken numbers: each picture is moved by the part of a screen pixel that is missing. */
  function align(ratio) {
    document.querySelectorAll(".exact").forEach(function (image) {
      image.style.left = image.style.top = "0px";
      var box = image.getBoundingClientRect();
      var x = (box.left + window.scrollX) * ratio, y = (box.top + window.scrollY) * ratio;
      image.style.left = (Math.round(x) - x) / ratio + "px";
      image.style.top = (Math.round(y) - y) / ratio + "px";
    });
  }

  function letter(place) { return String.fromCharCode(65 + place); }

  function present() {
    var index = answers.answers.length;
    if (index >= form.order.length) { finish(); return; }
    load(index).then(function (images) {
      var trial = study.trials[form.order[index]];
      var order = form.shown[index];
      chosen = [];
      shown = order.map(function (place) { return trial.candidates[place]; });
      var count = study.trials.length - study.practice;
      element("progress").textContent = index < study.practice ? "Practice" : "Set " + (index - study.practice + 1) + " of " + count;
      element("share").value = Math.max(0, index - study.practice) / count;
      var reference = element("reference");
      images[0].alt = reference.querySelector("img").alt;
      reference.replaceChild(images[0], reference.querySelector("img"));
      var group = element("candidates");
      group.textContent = "";
      order.forEach(function (place, position) {
        var button = document.createElement("button");
        button.type = "button";
        button.className = "candidate";
        var rank = document.createElement("span");
        rank.className = "rank";
        images[1 + place].alt = "";
        button.appendChild(images[1 + place]);
        button.appendChild(rank);
        button.appendChild(document.createTextNode(letter(position)));
        button.addEventListener("click", function () { choose(position); });
        group.appendChild(button);
      });
      show("trial");
      fit();
      draw();
      startClock();
      delete ready[index];
      load(index + 1);
    });
  }

  /* A ranking takes all pictures, best first; the other studies take one. */
  function needed() { return study.mode === "rank" ? shown.length : 1; }

  function choose(position) {
    var place = chosen.indexOf(position);
    if (place >= 0) chosen.splice(place, 1);
    else if (study.mode !== "rank") chosen = [position];
    else chosen.push(position);
    draw();
  }

  function draw() {
    Array.from(element("candidates").children).forEach(function (button, position) {
      var place = chosen.indexOf(position);
      var word = study.mode === "rank" ? String(place + 1) : "\u2713";
      button.querySelector(".rank").textContent = place < 0 ? "" : word;
      button.setAttribute("aria-pressed", place < 0 ? "false" : "true");
      button.setAttribute("aria-label", "Picture " + letter(position) +
        (place < 0 ? "" : study.mode === "rank" ? ", place " + word : ", chosen"));
    });
    var missing = needed() - chosen.length;
    element("next").disabled = missing > 0;
    element("undo").disabled = chosen.length === 0;
    element("status").textContent = missing === 0 ? "Complete: go on with Next, or change your mind."
      : study.mode !== "rank" ? "Choose one."
      : chosen.length === 0 ? "Choose the best." : "Choose the best of the other " + missing + ".";
  }

  function next() {
    if (chosen.length < needed()) return;
    var index = answers.answers.length;
    var ranking = chosen.map(function (position) { return [shown[position]]; });
    var rest = shown.filter(function (name, position) { return chosen.indexOf(position) < 0; });
    if (rest.length) ranking.push(rest);
    answers.answers.push({
      trial: study.trials[form.order[index]].id, shown: shown, ranking: ranking,
      seconds: Math.round(clock() / 10) / 100, width: window.innerWidth,
      pixel_ratio: window.devicePixelRatio || 1, screen_pixels_per_pixel: perPixel
    });
    remember();
    present();
  }

  function finish() {
    element("text").value = JSON.stringify(answers);
    show("done");
  }

  function save() {
    var link = document.createElement("a");
    var address = URL.createObjectURL(new Blob([JSON.stringify(answers, null, 1)], { type: "application/json" }));
    link.href = address;
    link.download = "answers-" + study.study.slice(0, 8) + "-" + answers.participant + ".json";
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(function () { URL.revokeObjectURL(address); }, 60000);
  }

  function keys(event) {
    if (element("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    var key = event.key;
    var position = key.length === 1 ? key.toUpperCase().charCodeAt(0) - 65 : -1;
    if (study.mode === "2afc" && (key === "ArrowLeft" || key === "ArrowRight")) position = key === "ArrowLeft" ? 0 : 1;
    if (position >= 0 && position < shown.length) choose(position);
    else if (key === "Backspace") { chosen.pop(); draw(); }
    else if (key === "Enter" && chosen.length >= needed() && document.activeElement !== element("undo") &&
      !document.activeElement.classList.contains("save")) { if (!event.repeat) next(); }
    else return;
    event.preventDefault();
  }

  element("consent").addEventListener("change", function (event) { element("start").disabled = !event.target.checked; });
  element("start").addEventListener("click", function () { answers.consent = true; remember(); present(); });
  element("undo").addEventListener("click", function () { chosen.pop(); draw(); });
  element("next").addEventListener("click", next);
  document.querySelectorAll(".save").forEach(function (button) { button.addEventListener("click", save); });
  element("copy").addEventListener("click", function () {
    element("text").select();
    element("copied").textContent = document.execCommand("copy") ? "Copied." : "Copy the marked text.";
  });
  element("again").addEventListener("click", function () {
    if (!confirm("Are the answers saved? They are removed from this browser, and another person can begin.")) return;
    try { localStorage.removeItem(store); } catch (error) { /* nothing was kept */ }
    location.reload();
  });
  document.addEventListener("keydown", keys);
  window.addEventListener("resize", fit);

  answers = recall() || anew();
  form = study.forms[answers.form];
  remember();
  if (answers.answers.length) {
    element("welcome").hidden = false;
    element("welcome").textContent = "Welcome back: " + Math.max(0, answers.answers.length - study.practice) + " of " +
      (study.trials.length - study.practice) + " sets are done.";
  }
  load(answers.answers.length);
  show("intro");
  fit();
})();
