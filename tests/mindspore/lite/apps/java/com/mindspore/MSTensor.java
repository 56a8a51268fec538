package com.mindspore;

import java.nio.ByteBuffer;

public class MSTensor {
    final String name;
    byte[] data;

    MSTensor(String name) {
        this.name = name;
    }

    public String tensorName() {
        return name;
    }

    public byte[] getByteData() {
        return data;
    }

    public boolean setData(ByteBuffer buffer) {
        if (!buffer.isDirect()) {
            return false;
        }
        data = new byte[buffer.remaining()];
        buffer.duplicate().get(data);
        return true;
    }
}
