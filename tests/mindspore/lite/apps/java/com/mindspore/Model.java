package com.mindspore;

import com.mindspore.config.MSContext;
import com.mindspore.config.ModelType;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A stand-in: it takes the sample's inputs alone and gives its outputs, floats times a factor. */
public class Model {
    /** Set by Phone: names of tensors, "" after the inputs; files beside them; shapes of the inputs; float outputs. */
    public static String folder;
    public static String[] inputNames, outputNames, inputFiles, outputFiles;
    public static int[][] shapes;
    public static boolean[] floats;
    public static boolean anySize;
    public static float factor = 1;
    public static int freed;

    private final List<MSTensor> inputs = new ArrayList<>();
    private final List<MSTensor> outputs = new ArrayList<>();
    private boolean built, sized;

    public boolean build(MappedByteBuffer bytes, int type, MSContext context) {
        byte[] head = new byte[8];
        bytes.get(head);
        built = context.ready && type == ModelType.MT_MINDIR && new String(head, 4, 4).equals("MSL2");
        for (String n : inputNames) {
            inputs.add(new MSTensor(n));
        }
        for (String n : outputNames) {
            outputs.add(new MSTensor(n));
        }
        sized = !anySize;
        return built;
    }

    public List<MSTensor> getInputs() {
        return inputs;
    }

    public boolean resize(List<MSTensor> given, int[][] dims) {
        sized = given == inputs && Arrays.deepEquals(dims, shapes);
        return sized;
    }

    public boolean predict() {
        try {
            for (int i = 0; i < inputNames.length; i++) {
                byte[] want = Files.readAllBytes(Path.of(folder, inputFiles[i]));
                if (!built || !sized || !Arrays.equals(want, inputs.get(i).data)) {
                    return false;
                }
            }
            for (int i = 0; i < outputNames.length; i++) {
                byte[] data = Files.readAllBytes(Path.of(folder, outputFiles[i]));
                ByteBuffer view = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
                for (int k = 0; floats[i] && k < data.length; k += 4) {
                    view.putFloat(k, view.getFloat(k) * factor);
                }
                outputs.get(i).data = data;
            }
        } catch (IOException e) {
            return false;
        }
        return true;
    }

    public MSTensor getOutputByTensorName(String name) {
        return outputs.get(Arrays.asList(outputNames).indexOf(name));
    }

    public void free() {
        freed++;
    }
}
